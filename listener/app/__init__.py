"""The composition root: builds every part and gives it its collaborators."""
