"""A collection over HTTP: the search service behind `delf serve`.

    request -> guard -> form -> workers -> library, queries -> answer

`server.py` listens and ends; `connections.py` bounds what clients hold open; `guard.py` refuses what no handler should
see; `forms.py` reads uploads within bounds; `workers.py` is the bounded pool that the model runs in; `library.py` has
the state of the collection that is searched, and `writing.py` changes it; `queries.py` searches; `app.py` joins them;
`schemas.py` says what the answers are, and `description.py` shows it. Nothing outside of this package imports a web
library.
"""
