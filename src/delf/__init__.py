"""Find the photos that show the same place or object, with geometric evidence."""
