"""Modules that a program in a session may import although no package has them: IPython's display, matplotlib's backend.

They are searched last, so that real packages have priority, and their code is read only when it is imported. A real
IPython without a shell would only print displayed objects, so our functions replace its own.
"""

import sys

import kind

hidden = kind.hidden
HERE = "/usr/lib/proxybox"
BACKEND = "proxybox_inline"
URL = f"module://{BACKEND}"  # as matplotlib names it
#: The file of each module; None: it has no code. Modules with others below them are packages.
FILES = {
    BACKEND: "inline",
    "IPython": "ipython",
    "IPython.core": None,
    "IPython.core.display": "ipython_names",
    "IPython.core.display_functions": "ipython_functions",
    "IPython.display": "ipython_display",
    "matplotlib_inline": None,
    "matplotlib_inline.backend_inline": "inline_names",
}
PACKAGES = {"IPython", "IPython.core", "matplotlib_inline"}
ModuleSpec = sys.modules["_frozen_importlib"].ModuleSpec
#: The source of modules that were read already: copies of a zygote do not have the files.
READ = {}


def read_all():
    """Reads all the code, for copies."""
    for file in FILES.values():
        source_of(file)


@hidden
def source_of(file):
    if file is None:
        return ""
    if file not in READ:
        with open(f"{HERE}/{file}.py", encoding="utf-8") as text:
            READ[file] = text.read()
    return READ[file]


class Last:
    """The last finder, which also loads the modules (importlib.abc.MetaPathFinder, importlib.abc.InspectLoader)."""

    @hidden
    def find_spec(self, name, path=None, target=None):
        if name not in FILES or path:  # with a path, the package is a real one
            return None
        return ModuleSpec(name, self, origin=f"{HERE}/{FILES[name]}.py", is_package=name in PACKAGES)

    @hidden
    def create_module(self, spec):
        return None  # an ordinary module

    @hidden
    def exec_module(self, module):
        code = compile(source_of(FILES[module.__name__]), module.__spec__.origin, "exec", 0, True)
        exec(code, vars(module))

    @hidden
    def get_source(self, name):
        """Returns the source of a module, for tracebacks."""
        return source_of(FILES[name])

    @hidden
    def is_package(self, name):
        return name in PACKAGES


#: The module of a real IPython that has the functions.
FUNCTIONS = "IPython.core.display_functions"


class First:
    """The first finder. It finds two modules as others do, and changes them when they are loaded.

    matplotlib gets our backend where none is chosen, and a real IPython our functions.
    """

    @hidden
    def find_spec(self, name, path=None, target=None):
        if name == "matplotlib":
            sys.modules["os"].environ.setdefault("MPLBACKEND", URL)
            add = make_interactive
        elif name == FUNCTIONS and path:
            add = put_functions
        else:
            return None
        spec = sys.modules["_frozen_importlib_external"].PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = Adding(spec.loader, add)
        return spec


class Adding:
    """Loads a module as its own loader does, and adds to it (importlib.abc.Loader)."""

    def __init__(self, loader, add):
        self.loader, self.add = loader, add

    @hidden
    def create_module(self, spec):
        return self.loader.create_module(spec)

    @hidden
    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        self.add(module)


@hidden
def put_functions(module):
    ours = {"__name__": module.__name__}
    exec(compile(source_of("ipython_functions"), f"{HERE}/ipython_functions.py", "exec", 0, True), ours)
    vars(module).update((name, ours[name]) for name in ours["__all__"])


@hidden
def make_interactive(matplotlib):
    """Makes matplotlib show figures at the end of a cell. At the first figure it would be too late: see ioff()."""
    if sys.modules["os"].environ.get("MPLBACKEND") == URL and hasattr(matplotlib, "interactive"):
        matplotlib.interactive(True)


def install():
    """Adds the finders, and sets our backend in a matplotlib that has not chosen one."""
    sys.meta_path.insert(0, First())
    sys.meta_path.append(Last())
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is not None and "MPLBACKEND" not in sys.modules["os"].environ:  # imported by the policy
        try:
            choose(matplotlib)
        except Exception:
            pass  # another module of that name


def choose(matplotlib):
    """Sets our backend in a matplotlib that has none yet, or has fallen back to Agg, which shows nothing."""
    undecided = sys.modules["matplotlib.rcsetup"]._auto_backend_sentinel
    chosen = dict.__getitem__(matplotlib.rcParams, "backend")
    if chosen is undecided:
        matplotlib.rcParams["backend"] = URL
    elif str(chosen).lower() == "agg" and not sys.modules["matplotlib._pylab_helpers"].Gcf.figs:
        matplotlib.use(URL)
    else:
        return
    sys.modules["os"].environ["MPLBACKEND"] = URL
    make_interactive(matplotlib)


@hidden
def set_up(formats):
    """Carries out `%matplotlib inline`, and `%config InlineBackend.figure_format` with its formats."""
    sys.modules["os"].environ["MPLBACKEND"] = URL
    if formats:
        __import__(BACKEND).set_matplotlib_formats(*formats)
    elif "matplotlib" in sys.modules:
        sys.modules["matplotlib"].use(URL)
        make_interactive(sys.modules["matplotlib"])
