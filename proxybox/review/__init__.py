"""Changes of a box, shown to a person before any of them is written: what they are, and which of them are accepted.

Rules: a review shows the values that it will write, and nothing outside of it can change them. All text that it gives
for people is made harmless first. What writes is the commit (controller/vfs/commits), whose checks all remain.
"""

from proxybox.controller.vfs.commits.committing import Committed as Committed
from proxybox.review.items import Hunk as Hunk
from proxybox.review.items import Item as Item
from proxybox.review.reviewing import Review as Review
from proxybox.review.reviewing import ReviewRefused as ReviewRefused
