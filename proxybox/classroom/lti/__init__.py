"""Launches from a learning platform, such as Moodle or Canvas, and grades that go back to it: LTI 1.3.

https://www.imsglobal.org/spec/lti/v1p3, https://www.imsglobal.org/spec/security/v1p0,
https://www.imsglobal.org/spec/lti-ags/v2p0

Rule: data from a browser is accepted only if a platform of the teacher's list has signed it, for us, just now, and for
a login that began in this browser. It is accepted once.
"""
