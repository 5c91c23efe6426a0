"""A document and XPath."""

from lxml import etree

root = etree.fromstring("<a><b c='1'>text</b></a>")
print(root.xpath("//b/@c"), etree.tostring(root))
