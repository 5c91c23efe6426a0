"""What is shown to a person, for the command, the prompt and the kernel alike: text that a terminal may have, colours,
calls as strace(1) prints them."""
