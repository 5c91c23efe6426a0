"""Encryption with a random key."""

from cryptography.fernet import Fernet

key = Fernet.generate_key()
box = Fernet(key)
print(box.decrypt(box.encrypt(b"text")), key)
