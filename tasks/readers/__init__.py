"""How published data are read, whatever they are of: archives and files, the Hub, tables of rows."""
