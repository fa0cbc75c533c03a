"""asv's benchmarks of fastnn over its commits; ``track.py`` runs them."""
