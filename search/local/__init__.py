"""Ray and signals on this machine: private folders, a Ray of our own or the caller's."""
