"""Pages of a run folder for people: one static folder, or a server. See README.md here."""
