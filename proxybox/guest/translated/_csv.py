"""CSV parsing and writing, in Python: the module that csv.py imports."""

__version__ = "1.0"

QUOTE_MINIMAL, QUOTE_ALL, QUOTE_NONNUMERIC, QUOTE_NONE = range(4)

_dialects = {}
_limit = [128 * 1024]


class Error(Exception):
    """A text is malformed, or a value cannot be written."""


# --- dialects ---------------------------------------------------------------------------------------------------------

_DEFAULTS = {
    "delimiter": ",",
    "doublequote": True,
    "escapechar": None,
    "lineterminator": "\r\n",
    "quotechar": '"',
    "quoting": QUOTE_MINIMAL,
    "skipinitialspace": False,
    "strict": False,
}


class Dialect:
    """The rules of a format."""

    __slots__ = tuple("_" + name for name in _DEFAULTS)

    def __new__(cls, dialect=None, **fields):
        if isinstance(dialect, str):
            dialect = get_dialect(dialect)
        if isinstance(dialect, Dialect) and not fields:
            return dialect
        for name in fields:
            if name not in _DEFAULTS:
                raise TypeError("this function got an unexpected keyword argument %r" % name)
        self = object.__new__(cls)
        found = {
            name: fields[name] if name in fields else getattr(dialect, name, default)
            for name, default in _DEFAULTS.items()
        }
        if found["quotechar"] is None and "quoting" not in fields and not hasattr(dialect, "quoting"):
            found["quoting"] = QUOTE_NONE
        _check(found)
        for name, value in found.items():
            object.__setattr__(self, "_" + name, value)
        return self

    def __setattr__(self, name, value):
        raise AttributeError(name)

    __delattr__ = lambda self, name: self.__setattr__(name, None)


for _name in _DEFAULTS:
    setattr(Dialect, _name, property(lambda self, _field="_" + _name: getattr(self, _field)))


def _check(found):
    for name in ("delimiter", "escapechar", "quotechar"):
        value = found[name] = found[name] or None
        if value is not None and not isinstance(value, str):
            raise TypeError('"%s" must be string, not %s' % (name, type(value).__name__))
        if value is not None and len(value) > 1:
            raise TypeError('"%s" must be a 1-character string' % name)
    for name in ("doublequote", "skipinitialspace", "strict"):
        found[name] = bool(found[name])
    if type(found["quoting"]) is not int:
        raise TypeError('"quoting" must be an integer')
    if not QUOTE_MINIMAL <= found["quoting"] <= QUOTE_NONE:
        raise TypeError('bad "quoting" value')
    if found["delimiter"] is None:
        raise TypeError('"delimiter" must be a 1-character string')
    if found["quoting"] != QUOTE_NONE and found["quotechar"] is None:
        raise TypeError("quotechar must be set if quoting enabled")
    if found["lineterminator"] is None:
        raise TypeError("lineterminator must be set")
    if not isinstance(found["lineterminator"], str):
        raise TypeError('"lineterminator" must be a string')


def register_dialect(name, dialect=None, **fields):
    """Gives a dialect a name."""
    if not isinstance(name, str):
        raise TypeError("dialect name must be a string")
    _dialects[name] = Dialect(dialect, **fields)


def unregister_dialect(name):
    """Takes a name from its dialect."""
    get_dialect(name)
    del _dialects[name]


def get_dialect(name):
    """Returns the dialect of a name."""
    try:
        return _dialects[name]
    except (KeyError, TypeError):
        raise Error("unknown dialect") from None


def list_dialects():
    """Returns the names of dialects."""
    return list(_dialects)


def field_size_limit(*limit):
    """Returns the most characters of a field, and sets that number where one is given."""
    before = _limit[0]
    if limit:
        if not isinstance(limit[0], int):
            raise TypeError("limit must be an integer")
        _limit[0] = limit[0]
    return before


# --- reading ----------------------------------------------------------------------------------------------------------

(
    _RECORD,
    _FIELD,
    _ESCAPED,
    _IN_FIELD,
    _IN_QUOTES,
    _ESCAPED_IN_QUOTES,
    _QUOTE_IN_QUOTES,
    _AFTER_NEWLINE,
    _AFTER_ESCAPED_NEWLINE,
) = range(9)
#: Marks the end of a line, instead of a character.
_END = ""


class _Reader:
    """Yields the rows of lines."""

    def __init__(self, lines, dialect="excel", **fields):
        self.dialect = Dialect(dialect, **fields)
        self._lines = iter(lines)
        self.line_num = 0

    def __iter__(self):
        return self

    def __next__(self):
        self._fields, self._field, self._state, self._is_number = [], [], _RECORD, False
        while True:
            try:
                line = next(self._lines)
            except StopIteration:
                if not self._field and self._state != _IN_QUOTES:
                    raise
                if self.dialect.strict:
                    raise Error("unexpected end of data") from None
                self._save()
                return self._fields
            if not isinstance(line, str):
                raise Error(
                    "iterator should return strings, not %s (did you open the file in text mode?)" % type(line).__name__
                )
            self.line_num += 1
            simple = self._simple(line)
            if simple is not None:
                return simple
            for character in line:
                if character == "\0":
                    raise Error("line contains NULL byte")
                self._take(character)
            self._take(_END)
            if self._state == _RECORD:
                return self._fields

    def _simple(self, line):
        """Returns the row of a line that only has to be split; None for others."""
        dialect = self.dialect
        text = line[:-1] if line[-1:] == "\n" else line
        if (
            not text
            or self._state != _RECORD
            or dialect.quoting == QUOTE_NONNUMERIC
            or dialect.skipinitialspace
            or len(text) > _limit[0]
            or "\n" in text
            or "\r" in text
            or "\0" in text
            or (dialect.quotechar and dialect.quotechar in text)
            or (dialect.escapechar and dialect.escapechar in text)
            or dialect.delimiter == "\n"
        ):
            return None
        return text.split(dialect.delimiter)

    def _save(self):
        text = "".join(self._field)
        self._fields.append(float(text) if self._is_number else text)
        self._field, self._is_number = [], False

    def _add(self, character):
        if len(self._field) >= _limit[0]:
            raise Error("field larger than field limit (%d)" % _limit[0])
        self._field.append(character)

    def _take(self, character):
        state, dialect = self._state, self.dialect
        is_newline = character in ("\n", "\r", _END)
        if state == _RECORD:
            if character == _END:
                return
            if is_newline:
                self._state = _AFTER_NEWLINE
                return
            state = _FIELD
        if state == _AFTER_ESCAPED_NEWLINE:
            if character == _END:
                return
            state = _IN_FIELD
        if state == _FIELD:
            self._begin_field(character, is_newline)
        elif state == _IN_FIELD:
            if is_newline:
                self._end_record(character)
            elif character == dialect.escapechar:
                self._state = _ESCAPED
            elif character == dialect.delimiter:
                self._save()
                self._state = _FIELD
            else:
                self._add(character)
        elif state == _ESCAPED:
            self._add(character or "\n")
            self._state = _AFTER_ESCAPED_NEWLINE if character in ("\n", "\r") and character else _IN_FIELD
        elif state == _AFTER_NEWLINE:
            if not is_newline:
                raise Error(
                    "new-line character seen in unquoted field - do you need to open the file in "
                    "universal-newline mode?"
                )
            if character == _END:
                self._state = _RECORD
        else:
            self._take_quoted(state, character, is_newline)

    def _begin_field(self, character, is_newline):
        dialect = self.dialect
        if is_newline:
            self._end_record(character)
        elif character == dialect.quotechar and dialect.quoting != QUOTE_NONE:
            self._state = _IN_QUOTES
        elif character == dialect.escapechar:
            self._state = _ESCAPED
        elif character == " " and dialect.skipinitialspace:
            self._state = _FIELD
        elif character == dialect.delimiter:
            self._save()
            self._state = _FIELD
        else:
            self._is_number = dialect.quoting == QUOTE_NONNUMERIC
            self._add(character)
            self._state = _IN_FIELD

    def _take_quoted(self, state, character, is_newline):
        dialect = self.dialect
        is_quote = character == dialect.quotechar and dialect.quoting != QUOTE_NONE
        if state == _ESCAPED_IN_QUOTES:
            self._add(character or "\n")
            self._state = _IN_QUOTES
        elif state == _IN_QUOTES:
            if character == _END:
                return
            if character == dialect.escapechar:
                self._state = _ESCAPED_IN_QUOTES
            elif is_quote:
                self._state = _QUOTE_IN_QUOTES if dialect.doublequote else _IN_FIELD
            else:
                self._add(character)
        elif is_quote:  # a quote after a quote within quotes
            self._add(character)
            self._state = _IN_QUOTES
        elif character == dialect.delimiter:
            self._save()
            self._state = _FIELD
        elif is_newline:
            self._end_record(character)
        elif dialect.strict:
            raise Error("'%s' expected after '%s'" % (dialect.delimiter, dialect.quotechar))
        else:
            self._add(character)
            self._state = _IN_FIELD

    def _end_record(self, character):
        self._save()
        self._state = _RECORD if character == _END else _AFTER_NEWLINE


def reader(iterable, dialect="excel", **fields):
    """Returns an iterator over the rows of lines."""
    return _Reader(iterable, dialect, **fields)


# --- writing ----------------------------------------------------------------------------------------------------------


class _Writer:
    """Writes rows to a file."""

    def __init__(self, file, dialect="excel", **fields):
        self.dialect = Dialect(dialect, **fields)
        self._write = getattr(file, "write", None)
        if not callable(self._write):
            raise TypeError('argument 1 must have a "write" method')

    def writerow(self, row):
        try:
            fields = list(row)
        except TypeError:
            raise Error("iterable expected, not %s" % type(row).__name__) from None
        dialect = self.dialect
        texts = [self._text(field) for field in fields]
        if len(texts) == 1 and not texts[0]:
            if dialect.quoting == QUOTE_NONE:
                raise Error("single empty field record must be quoted")
            texts = [2 * dialect.quotechar]
        return self._write(dialect.delimiter.join(texts) + dialect.lineterminator)

    def writerows(self, rows):
        for row in rows:
            self.writerow(row)

    def _text(self, field):
        dialect = self.dialect
        quoting, quote, escape = dialect.quoting, dialect.quotechar, dialect.escapechar
        text = "" if field is None else str(field)
        is_quoted = quoting == QUOTE_ALL or (quoting == QUOTE_NONNUMERIC and not isinstance(field, (int, float)))
        special = {dialect.delimiter, quote, escape, *dialect.lineterminator} - {None}
        if special.isdisjoint(text):
            return quote + text + quote if is_quoted else text
        found = []
        for character in text:
            if character in special:
                is_escaped = (
                    quoting == QUOTE_NONE or (character == quote and not dialect.doublequote) or (character == escape)
                )
                if is_escaped and escape is None:
                    raise Error("need to escape, but no escapechar set")
                if is_escaped:
                    found.append(escape)
                else:
                    is_quoted = True
                    if character == quote:
                        found.append(quote)
            found.append(character)
        text = "".join(found)
        return quote + text + quote if is_quoted else text


def writer(file, dialect="excel", **fields):
    """Returns an object that writes rows to a file."""
    return _Writer(file, dialect, **fields)


del _name
