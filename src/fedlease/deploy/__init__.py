"""A federation over several organisations: what runs at the server, and what runs at a site."""
