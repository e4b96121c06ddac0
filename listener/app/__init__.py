"""The composition root: every part is built here and handed its collaborators."""
