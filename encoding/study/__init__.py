"""Studies: a file that names recordings, networks and analyses in; results and a report out."""
