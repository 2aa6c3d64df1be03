"""Tornado pieces that pages, the API and the user side share. Empty, so that each part loads alone."""
