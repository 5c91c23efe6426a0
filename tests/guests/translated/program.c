/* What a real build has as its program: all else is in the library beside it. */
int pypy_main_startup(int argc, char **argv);

int main(int argc, char **argv) { return pypy_main_startup(argc, argv); }
