"""XML from strangers: read by expat, event by event, and no document may declare anything."""

from collections.abc import Callable
from xml.parsers import expat

from hfrnn.errors import DataError


def parse(data: bytes, name: str, start: Callable, end: Callable | None = None, text: Callable | None = None) -> None:
    """Reads a document, calling back for what is in it.

    A document type declaration is refused: entities are declared in one, and an entity can grow without bound or name a
    file.  Nothing is ever fetched.

    Args:
      data: the document.
      name: what to call it in an error.
      start: ``start(tag, attributes)`` at an element's start, the attributes as a flat list: name, value, name, ...
      end: ``end(tag)`` at its end.
      text: ``text(characters)``.

    Raises:
      DataError: if it is broken, or has a document type declaration.
    """
    parser = expat.ParserCreate()
    parser.ordered_attributes = True
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text

    def refuse(*_):
        raise DataError(f'{name} declares a document type or entities; such XML is refused')

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as e:
        raise DataError(f'{name} is broken XML: {e}') from e
    except (ValueError, LookupError) as e:  # an encoding that Python does not know
        if isinstance(e, DataError):
            raise
        raise DataError(f'{name} is broken XML: {e}') from e
