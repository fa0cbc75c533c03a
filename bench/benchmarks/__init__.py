"""asv's benchmarks of fastnn itself, over its commits. ``track.py`` runs them."""
