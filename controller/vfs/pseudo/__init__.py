"""The files that a box generates for its guest: /proc, /etc, /dev, and files whose content a function produces."""
