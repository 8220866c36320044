"""What people look at: pictures of matches, and a page of results. Import from `drawing` and `html`."""
