"""Shows the changes of a box to a person before any of them is written. The person accepts or rejects each of them.

Rules: a review shows the values that it will write, and no other code can change them. All text for people is made
harmless first. The commit (controller/vfs/commits) writes the changes, with all its checks.
"""

from proxybox.controller.vfs.commits.committing import Committed as Committed
from proxybox.review.items import Hunk as Hunk
from proxybox.review.items import Item as Item
from proxybox.review.reviewing import Review as Review
from proxybox.review.reviewing import ReviewRefused as ReviewRefused
