"""What a box makes up for its guest: /proc, /etc, /dev, and files whose content a function produces."""
