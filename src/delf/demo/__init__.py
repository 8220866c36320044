"""The demo: real photographs, changed in known ways and hidden among others, to be found again.

- `samples`: the photographs that scikit-image ships inside its package, and whose they are.
- `camera`: a photograph of a photograph: viewpoint, zoom and crop, then light, blur, noise, a thing in the way.
- `scenes`: which photos make the collection and the queries, and which of them show the same thing.
"""
