"""Arithmetic on a parsed expression: nothing is ever executed."""

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from agents_app.core.errors import ToolFailedError
from agents_app.core.tools import tool

MAX_LENGTH = 500
MAX_DEPTH = 50
# Enough for 300-digit integers; a larger one would be a way to burn CPU and memory.
MAX_BITS = 1024

Number = int | float


@tool(is_instant=True)
def calculator(expression: str) -> int | float:
    """Work out an arithmetic expression with + - * / // % ** and parentheses."""
    if len(expression) > MAX_LENGTH:
        raise _failed(f"at most {MAX_LENGTH} characters, got {len(expression)}")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        return _value(tree.body, depth=0)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _failed("this is not an arithmetic expression") from None
    except ZeroDivisionError:
        raise _failed("division by zero") from None
    except OverflowError:
        raise _failed("the result is too large") from None


def _power(base: Number, exponent: Number) -> Any:
    # Judged before it is computed: afterwards is too late.
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and abs(base) > 1 and int(base).bit_length() * exponent > MAX_BITS:
        raise OverflowError
    return base**exponent


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


def _value(node: ast.expr, *, depth: int) -> Number:
    if depth > MAX_DEPTH:
        raise _failed(f"nested more than {MAX_DEPTH} deep")
    match node:
        case ast.Constant(value=value):
            return _number(value)
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            return _number(_UNARY[type(sign)](_value(operand, depth=depth + 1)))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            first = _value(left, depth=depth + 1)
            second = _value(right, depth=depth + 1)
            return _number(_BINARY[type(sign)](first, second))
    raise _failed("only numbers, + - * / // % ** and parentheses are allowed")


def _number(value: Any) -> Number:
    # bool is an int to Python, but `True` is no number to a reader.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _failed("only real numbers are allowed")
    too_large = value.bit_length() > MAX_BITS if isinstance(value, int) else math.isinf(value)
    if too_large or value != value:
        raise OverflowError
    return value


def _failed(reason: str) -> ToolFailedError:
    return ToolFailedError("calculator", reason)
