"""Writes jinja_cases.json: small templates and what Python's jinja2 renders, set up as Hugging Face sets it up.

Usage: python make_jinja_cases.py   (needs jinja2 3.1)
One context serves all cases. A case is [template, expected text], or [template] where rendering must fail.
"""
import datetime
import json
import pathlib

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.sandbox import SandboxedEnvironment

CONTEXT = {
    "s": "Hello, World",
    "empty": "",
    "u": "Zürich ÄÖ ß 日本語 🎉",
    "ws": " \t\n padded\u00a0\n",
    "html": "<a href=\"x\">'&'</a>",
    "lines": "one\ntwo\r\nthree\n\nfive",
    "n": 7,
    "neg": -7,
    "big": 18446744073709551615,
    "f": 2.5,
    "tiny": 1e-07,
    "huge": 1e22,
    "whole": 3.0,
    "t": True,
    "no": False,
    "nothing": None,
    "nums": [3, 1, 2],
    "words": ["pear", "Apple", "fig", "apple"],
    "mixed": [1, "a", None, True, 2.5, [1], {"k": "v"}],
    "d": {"b": 1, "a": {"x": [1, 2]}, "items": "shadow", "é": "ü\"\\\n\u0001/"},
    "e": {},
    "el": [],
    "users": [
        {"name": "Bo", "age": 30, "tags": ["x"], "on": True},
        {"name": "al", "age": 25, "tags": [], "on": False},
        {"name": "Cy", "age": 30, "on": True, "extra": {"deep": 1}},
    ],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi <|im_end|>"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHey", "tool_calls": None},
        {"role": "user", "content": [{"type": "text", "text": "part"}, {"type": "image"}]},
    ],
    "loopy": "ab",
}


def expressions(*sources):
    return ["{{ %s }}" % source for source in sources]


CASES = [
    # white space
    "a\n", "a\n\n", "\n", "", "  {% if t %}x{% endif %}\n y", "{% if t %}\n  x\n{% endif %}\nz",
    "a\n  {%- if t %} b {%- endif %}\nc", "a \n {%- if t -%} \n b \n {%- endif -%} \n c", "a {{- ' b ' -}} c",
    "a\n{{ 1 }}\nb\n", "  {{ 1 }}  \n  {{- 2 -}}  \n 3", "x {%+ if t %} y {% endif +%}\nz", "  {%+ if t %}y{% endif %}",
    "a {# c #} b", "a\n  {# c #}\nb", "a\n  {#- c -#}  \nb", "{# {{ x }} {% if %} #}k", "a\n{#+ c +#}\nb", "{##}x{#--#}y",
    "{% raw %}{{ x }}{% endraw %}!", "a\n  {% raw %}\n {% if %}\n  {% endraw %}\nb", "{%- raw -%}  x  {%- endraw -%}  y",
    "a\r\nb\rc\n{% if t %}\r\nd{% endif %}", "\u3000{%- if t %}\u00a0x\u2003{%- endif %}", "{% if t %} {% endif %}|",
    "{% if t %}{% if t %}  {% if t %}  x{% endif %}{% endif %}{% endif %}", "{{ 'a' }}\n  {% set x = 1 %}\n{{ x }}",
    "a{% set x = 1 %}\n\nb", "\t{% for i in nums %}\n\t{{ i }}\n\t{% endfor %}\nend", "{{'%}'}}{{ '}}' }}{% set q = '%}' %}{{ q }}",
    "{{ {'a': {'b': 1}}['a'] }}", "{{-s-}}", "{{ s -}}\n\n x", "{ {", "{", "}}", "%}", "#}", "a{", "{{ '{{' }}", "{{ '{%' }}",
    # literals
    *expressions(
        "none", "None", "true", "True", "false", "1", "1_000", "0x1F", "0b101", "0o17", "1.5", "1e3", "1.5e-7", "1e22", "1.0",
        "100000000000000000.0", "123456789012345.6", "0.1", "1e16", "1e15", "0.0001", "0.00001", "-0.0", "'a' 'b' \"c\"",
        "'\\n|\\t|\\\\|\\'|\\\"|\\x41|\\u00e9|\\101|\\q|\\\nz'", "\"it's\"", "'raw\nnewline'", "[1, 'a', none, true, 1.0]",
        "[]", "()", "(1,)", "(1, 2)", "1, 2", "{}", "{'a': 1, 2: 'b', none: [], true: (1,)}", "{1: 'a', true: 'b', 1.0: 'c'}",
        "['it\\'s', 'q\"q', 'b\"\\'b', 'n\\n\\t\\\\', 'é\\u200b\\x07']", "[1,]", "{'a': 1,}", "[[1, [2]], {'a': [none]}]",
        "big", "9007199254740993", "-9223372036854775808", "mixed", "d", "e", "el",
    ),
    # names, attributes, items
    *expressions(
        "missing", "missing.x", "missing['x']", "missing[0]", "none.x", "none.x.y", "none['x']", "d.b", "d['b']", "d.zzz", "d['zzz']",
        "d.zzz.y", "d.a.x[1]", "d.a.x.1", "d['items']", "d.items()|list", "e.items()|list", "d.get('b')", "d.get('q')",
        "d.get('q', 5)", "d.keys()|list", "d.values()|list|length", "e.keys()", "{'a': 1}.items()", "{'a': 1}.values()",
        "nums[0]", "nums[-1]", "nums[9]", "nums[-9]", "nums['x']", "nums[true]", "nums[1.0]", "nums[missing]", "s[0]", "s[-1]",
        "s[99]", "u[11]", "u[-1]", "s.foo", "n.foo", "s.foo()", "d.foo()", "missing()", "none()", "s()", "nums[missing:]",
        "nums[:2]", "nums[1:]", "nums[-2:]", "nums[::-1]", "nums[::2]", "nums[5:]", "nums[:-5]", "nums[2:0:-1]", "nums[::0]",
        "s[1:4]", "s[::-1]", "s[::3]", "s[-3:]", "s[:-3]", "u[:3]", "u[::-1]", "u[11:14]", "(1, 2, 3)[1:]", "nothing[1:]", "d[1:2]",
        "range(10)[2:8:3]|list", "s[none:2]", "nums['a':]", "{(1, 2): 3}[(1, 2)]", "{(1, 2): 3}[1, 2]", "users[0].tags[0]",
    ),
    # operators
    *expressions(
        "1 + 2", "1 - 2", "2 * 3", "7 / 2", "6 / 2", "7 // 2", "-7 // 2", "7 // -2", "7 % 3", "-7 % 3", "7 % -3", "7.5 % 2", "-7.5 % 2",
        "7.5 // 2", "2 ** 10", "2 ** -1", "2 ** 0.5", "10.0 ** 400", "-2 ** 2", "2 ** 3 ** 2", "1 / 0", "1 % 0", "1.0 / 0", "true + 1", "true + true",
        "1 + 1.0", "'a' + 'b'", "'a' + 1", "1 + 'a'", "'a' + none", "'a' + missing", "missing + 'a'", "[1] + [2]", "(1,) + (2,)", "[1] + (2,)",
        "[1] + 'a'", "'ab' * 3", "3 * 'ab'", "'ab' * 0", "'ab' * -1", "[1, 2] * 2", "'a' * 'b'", "'a' - 'b'", "-n", "- -n", "+n", "-f", "-s", "-missing",
        "'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1] ~ missing", "1 ~ 2 + 3", "'x' ~ 'y' * 2", "1 + 2 ~ 3", "'%s is %d' % ('a', 3)", "'%05.2f|%x|%5s|%-5s|' % (3.14159, 255, 'a', 'b')",
        "'%(k)s' % {'k': 'v'}", "'%s' % nums", "'x' % nums", "'x' % 1", "'%s|' % missing", "'%d%%' % 5", "'%s %s' % 'a'", "'%r' % 'a'", "'%c%c' % (65, 'B')", "'%+d % d %#x %e' % (1, 2, 255, 1234.5)",
        "1 == 1.0", "1 == true", "'1' == 1", "none == none", "missing == missing", "missing == none", "[1] == [1.0]", "[1] == (1,)", "{'a': 1} == {'a': 1.0}",
        "1 != 2", "'a' < 'b'", "'a' < 'B'", "1 < 'a'", "1 < 2.5", "[1, 2] < [1, 3]", "none < 1", "missing < 1", "2 >= 2", "2 <= 1", "1 < 2 < 3", "1 < 3 < 2", "3 > 2 > 1 == 1",
        "'ell' in s", "'' in s", "'z' not in s", "1 in nums", "9 not in nums", "1.0 in nums", "'b' in d", "'zz' in d", "'a' in none", "'a' in missing", "1 in s", "1 in 5",
        "none in [none]", "[] in d", "'é' in u", "(1, 2) in [(1, 2)]", "not 1", "not not s", "not none == none", "not 'a' in 'abc'", "1 and 2", "0 and 2", "0 or 'x'",
        "'' or none", "missing or 'dflt'", "none and missing.x", "1 or 2 and 0", "not 0 and 1", "'y' if t else 'n'", "'y' if no", "'y' if no else 'z' if no else 'w'",
        "('a' if t else 'b') ~ 'c'", "1 if missing else 2", "'x' ~ ('a' if t) ~ 'y'", "[1, 2] is sequence and 'a' is string", "n == 7 and not no or missing.x",
        "1 + 2 * 3 - 4 / 2", "(1 + 2) * 3", "2 * -3", "'a' + 'b'|upper", "-5|abs", "'a'|upper ~ 'b'", "n|string + 'x'", "not missing is defined", "1 is odd == true",
    ),
    # tests
    *expressions(
        "s is defined", "missing is defined", "missing is undefined", "s is not defined", "missing is not defined", "d.zz is defined", "none is none", "nothing is none", "missing is none", "s is string", "n is string",
        "n is number", "f is number", "t is number", "s is number", "n is integer", "t is integer", "f is integer", "f is float", "n is float",
        "t is boolean", "n is boolean", "t is true", "no is false", "n is true", "1 is true", "d is mapping", "nums is mapping", "missing is mapping",
        "[s is iterable, d is iterable, nums is iterable, n is iterable, none is iterable, missing is iterable, range(3) is iterable]",
        "[s is sequence, d is sequence, nums is sequence, n is sequence, none is sequence, missing is sequence, (1,) is sequence, range(2) is sequence, d.items() is sequence]",
        "nums|map('string') is sequence", "nums|map('string') is iterable", "range is callable", "s is callable", "missing is callable", "3 is odd", "4 is odd", "4 is even", "9 is divisibleby 3", "9 is divisibleby(2)", "none is sameas none", "t is sameas true", "1 is sameas true",
        "1 is eq 1", "1 is equalto 2", "1 is ne 2", "1 is lt 2", "2 is le 2", "1 is gt 2", "2 is ge 3", "1 is lessthan 2", "'b' is in 'abc'", "'z' is in(['y'])", "'abc' is lower", "'aBc' is lower", "'ABC' is upper",
        "'1' is upper", "'é' is lower", "s is not string", "n is not divisibleby 2", "'x'|safe is escaped", "'x' is escaped", "1 is nosuchtest", "s is in", "'upper' is filter", "'odd' is test", "'a' is odd",
    ),
    # filters
    *expressions(
        "s|upper", "s|lower", "u|upper", "u|lower", "n|upper", "none|upper", "missing|upper", "'hELLO wORLD'|capitalize", "'élan VITAL'|capitalize", "'hello-world foo (bar) it\\'s'|title", "ws|trim", "'xxaxx'|trim('x')", "none|trim", "missing|trim", "5|trim",
        "n|string", "none|string", "[1]|string", "s|safe", "('<'|safe) + '<'", "'<' + ('<'|safe)", "('<'|safe) ~ '<'", "html|e", "html|escape", "html|e|e", "('<b>'|safe)|e", "5|e", "('a'|safe)|upper is escaped", "[('a'|safe)]",
        "s|length", "u|length", "nums|length", "d|length", "none|length", "n|length", "missing|length", "nums|count", "nums|map('string')|length", "range(5)|length",
        "missing|default('x')", "empty|default('x')", "empty|default('x', true)", "none|default('x')", "none|d('x', boolean=true)", "missing|default", "0|default(5, true)", "missing.x|default('y')", "d.zz|default('y')", "s|default('a', 'b', 'c')",
        "nums|join", "nums|join(', ')", "mixed|join('|')", "s|join('-')", "d|join(',')", "users|join(', ', attribute='name')", "none|join", "missing|join(',')", "nums|join(1)", "[none, true]|join(',')",
        "nums|first", "nums|last", "el|first", "el|last", "s|first", "u|last", "d|first", "d|last", "nums|map('string')|first", "nums|map('string')|last", "n|first",
        "d|items|list", "e|items|list", "missing|items|list", "nums|items|list", "none|items|list", "d|list", "s|list", "none|list", "(1, 2)|list", "'日本'|list",
        "{'b': 1, 'A': 3, 'c': 2}|dictsort", "{'b': 1, 'A': 3, 'c': 2}|dictsort(true)", "{'b': 1, 'A': 3, 'c': 2}|dictsort(by='value')", "{'b': 1, 'A': 3}|dictsort(reverse=true)", "nums|dictsort", "{'a': 1, 2: 3}|dictsort", "missing|dictsort", "{'b': 1}|dictsort(false, 'zz')",
        "nums|sort", "nums|sort(reverse=true)", "words|sort", "words|sort(case_sensitive=true)", "users|sort(attribute='age')|map(attribute='name')|list", "users|sort(attribute='age,name')|map(attribute='name')|list", "mixed|sort", "[none, none]|sort", "users|sort(attribute='zz')|length", "s|sort", "missing|sort", "users|sort(attribute='age', reverse=true)|map(attribute='name')|list", "['b', ['a']]|sort",
        "words|unique|list", "[1, 1.0, true, 2]|unique|list", "words|unique(case_sensitive=true)|list", "users|unique(attribute='age')|map(attribute='name')|list", "[[1], [1]]|unique|list", "words|unique",
        "nums|reverse|list", "s|reverse", "u|reverse", "nums|reverse", "d|reverse|list", "5|reverse",
        "words|map('upper')|list", "users|map(attribute='name')|list", "users|map(attribute='extra')|list", "users|map(attribute='extra.deep', default=0)|list", "users|map(attribute='extra.deep')|list", "users|map(attribute='tags.0')|list", "[[1, 2], [3, 4]]|map(attribute=1)|list", "words|map('replace', 'a', 'b')|list", "words|map('default', 'x')|join(' ')", "nums|map('nosuch')|list", "nums|map|list", "missing|map('upper')|list", "none|map('upper')|list", "0|select|list", "5|map('upper')|list", "users|map(attribute='name', foo=1)|list", "[1.5, '2']|map('int')|list",
        "nums|select|list", "mixed|select('string')|list", "nums|select('odd')|list", "nums|select('gt', 1)|list", "nums|reject('odd')|list", "[0, 1, '']|reject|list", "nums|select('in', [1, 2])|list", "nums|select('nosuch')|list", "nums|select('divisibleby', 3)|list", "missing|select|list",
        "users|selectattr('on')|map(attribute='name')|list", "users|selectattr('age', 'equalto', 30)|map(attribute='name')|list", "users|selectattr('tags', 'defined')|list|length", "users|rejectattr('on')|map(attribute='name')|list", "users|rejectattr('extra', 'defined')|list|length", "users|selectattr('extra.deep', 'eq', 1)|list", "users|selectattr|list", "users|selectattr('name', 'in', ['Bo'])|list|length", "messages|selectattr('role', '==', 'user')|list|length", "(users|selectattr('zz')) and 1",
        "nums|min", "nums|max", "words|min", "words|max(case_sensitive=true)", "el|min", "users|min(attribute='age')", "users|max(attribute='name')", "mixed|max", "nums|sum", "users|sum(attribute='age')", "nums|sum(start=10)", "words|sum", "el|sum", "[1.5, 2]|sum", "[[1], [2]]|sum(start=[])", "missing|sum",
        "'a b  c-d_e'|wordcount", "'日本 語'|wordcount", "nums|batch(2)|list", "nums|batch(2, 'x')|list", "nums|batch(9, 0)|list", "[]|batch(2)|list", "neg|abs", "f|abs", "s|abs", "true|abs",
        "'12'|int", "' -12 '|int", "'1_0'|int", "'12.9'|int", "'x'|int", "'x'|int(5)", "'x'|int(default=none)", "'0x1f'|int(base=16)", "'ff'|int(0, 16)", "3.9|int", "-3.9|int", "none|int", "none|int(3)", "true|int", "missing|int", "[]|int", "'1e3'|int", "''|int", "'inf'|int",
        "'1.5'|float", "'x'|float", "'x'|float(2.5)", "3|float", "none|float", "' 1e3 '|float", "'inf'|float", "'nan'|float", "missing|float", "'1_0.5'|float",
        "2.5|round", "3.5|round", "2.675|round(2)", "1234|round(-2)", "1250|round(-2)", "1350|round(-2)", "-1251|round(-2)", "big|round(-1)", "1250.0|round(-2)", "7|round(-2)", "2.1|round(method='ceil')", "2.9|round(0, 'floor')", "2.15|round(1, 'ceil')", "5|round", "-2.5|round", "'a'|round", "1e300|round(2)", "1.005|round(2)", "42.55|round(1, 'floor')",
        "lines|indent", "lines|indent(2)", "lines|indent(2, true)", "lines|indent(width=2, first=true, blank=true)", "lines|indent('> ')", "''|indent(2, true)", "'a\\n'|indent", "'a\\n\\nb\\n'|indent(1)", "5|indent",
        "s|replace('l', 'L')", "s|replace('l', 'L', 1)", "s|replace('', '-')", "n|replace('7', 8)", "s|replace('zz', 'y')", "s|replace('l')", "'aaa'|replace('aa', 'b')", "s|replace('o', '', 0)", "'ab'|replace('', '-', 2)",
        "'%s-%s'|format('a', 1)", "'%(a)s'|format(a=1)", "'%s'|format", "'%d'|format('a')", "'%.3f'|format(2)", "'%5.1f|%-6d|%06d'|format(3.14159, 42, -42)",
        "d|tojson", "mixed|tojson", "u|tojson", "u|tojson(ensure_ascii=true)", "d|tojson(ensure_ascii=True)", "d|tojson(indent=2)", "el|tojson(indent=2)", "{'a': []}|tojson(indent=4)", "d|tojson(sort_keys=true)", "nums|tojson(separators=(',', ':'))", "d|tojson(indent=1, separators=(',', ':'))", "d|tojson(indent='\\t')", "[1, [2]]|tojson(indent=0)",
        "[1e-5, 1e22, 1.0, -0.0, 0.1, big, true, none]|tojson", "(1, 2)|tojson", "{1: 1, true: 2, none: 3, 1.5: 4}|tojson", "{(1,): 1}|tojson", "missing|tojson", "range(3)|tojson", "nums|map('string')|tojson", "html|tojson", "'\\x7f\\u2028/'|tojson", "'\\x7f'|tojson(true)", "'\\b\\f\\n\\r\\t\\x00\\x1f\\\"\\\\'|tojson", "namespace(a=1)|tojson", "d.items()|tojson", "'x'|safe|tojson", "('inf'|float)|tojson", "'a'|tojson|tojson",
        "'{\"b\": [1, 2.0, null], \"a\": \"\\\\u00e9\"}'|from_json", "'[1'|from_json", "('{\"k\": 1}'|from_json).k", "'5'|from_json + 1", "nums|from_json",
        "s|nosuchfilter", "s|upper('x')", "s|upper|lower|length", "nums | join (',') | upper",
    ),
    # methods
    *expressions(
        "s.upper()", "s.lower()", "s.title()", "\"they're bill's\".title()", "s.swapcase()", "'hELLO'.capitalize()", "u.upper()", "u.title()", "'ßa'.capitalize()", "'ßa'|title", "ws.strip()", "ws.lstrip()", "ws.rstrip()", "'xyaxy'.strip('xy')", "'xxa'.lstrip('x')", "'axx'.rstrip('x')", "'日本日'.strip('日')", "'a'.strip(none)", "'\\n\\na'.lstrip('\\n')",
        "'a b  c'.split()", "'a,b,,c'.split(',')", "'a,b,c'.split(',', 1)", "' a b c '.split(none, 1)", "''.split()", "''.split(',')", "'a<>b<>c'.split('<>')[-1]", "s.split('')", "'a,b,c'.rsplit(',', 1)", "' a b c '.rsplit(none, 1)", "'a b'.split(maxsplit=0)", "'abc'.split('')", "'a,b'.split(sep=',')", "lines.splitlines()", "lines.splitlines(true)", "'a-b-c'.partition('-')", "'a-b-c'.rpartition('-')", "'abc'.partition('-')", "'abc'.rpartition('-')",
        "s.startswith('He')", "s.startswith(('x', 'He'))", "s.startswith('ello', 1)", "s.endswith('ld')", "s.endswith(('a', 'b'))", "s.endswith('')", "s.startswith(1)", "s.endswith('World', 0, 5)",
        "s.replace('l', 'L')", "s.replace('l', 'L', 2)", "s.replace('', '.')", "s.replace('l')", "u.find('日')", "s.find('zz')", "s.find('o', 5)", "s.rfind('o')", "s.index('W')", "s.index('zz')", "s.count('l')", "s.count('')", "'aaaa'.count('aa')", "s.find('l', -3)", "s.find('', 99)", "s.count('l', 0, 4)",
        "', '.join(['a', 'b'])", "', '.join([1])", "','.join('abc')", "'x'.join([])", "','.join(d)", "s.removeprefix('Hello')", "s.removesuffix('World')", "s.removeprefix('zz')", "'7'.zfill(3)", "'-7'.zfill(4)", "'a'.center(6, '*')", "'ab'.center(5)", "'abc'.center(6)", "'a'.ljust(3, '.')", "'a'.rjust(3)", "'a'.rjust(3, 'xx')",
        "'12'.isdigit()", "'a1'.isalnum()", "'é'.isalpha()", "' '.isspace()", "''.isdigit()", "'abc'.islower()", "'ABC1'.isupper()", "'1.5'.isnumeric()",
        "'{} {}'.format('a', 1)", "'{1} {0}'.format('a', 'b')", "'{x}'.format(x=1)", "'{:>5}|{:<5}|{:^5}|{:*^5}'.format('a', 'b', 'c', 'd')", "'{:.2f} {:05d} {:,} {:x} {:b} {:e} {:%}'.format(3.14159, 42, 1234567, 255, 5, 12345.678, 0.25)", "'{!r} {!s}'.format('a', 'b')", "'{0[a]} {1[0]}'.format({'a': 1}, [2])", "'{{}}'.format()", "'{}'.format()", "'{x}'.format()", "'{'.format()", "'{:+} {: } {:+.1f}'.format(1, 2, 3.0)", "'{:>{w}}'.format('a', w=4)", "'{:10}|{:10}'.format('a', 5)", "'{}'.format(none)", "'{:d}'.format('a')", "'{:.3}'.format('abcdef')", "'{:_}'.format(1234567)", "'{:#x} {:o}'.format(255, 8)", "'{:g} {:g}'.format(0.00001, 1234567.0)", "'{}'.format(1.0)", "'{:s}'.format('x')", "'{0}{}'.format(1)",
        "d.pop('zz', 9)", "nums.index(1)", "nums.count(3)", "nums.index(99)", "(1, 2, 1).count(1)", "{'a': 1}.copy()", "[1, 2].copy()", "d.get()", "d.get('b', 1, 2)", "s.upper(1)", "s.split(1)", "{'a': 1}.setdefault('b', 2)",
    ),
    # globals
    *expressions(
        "range(3)|list", "range(1, 4)|list", "range(6, 0, -2)|list", "range(3)", "range(1, 9, 3)", "range(0)|list", "range(0, 5, 0)", "range('a')", "range(1.5)", "range(100001)", "2 in range(3)", "range(3)[1]", "range(5)|sum", "dict(a=1, b=2)", "dict({'a': 1}, b=2)", "namespace(a=1).a", "namespace(a=1).b", "namespace({'a': 1}, b=2)", "namespace(1)",
        "raise_exception('boom ' ~ n)", "strftime_now('%Y-%m-%d')", "strftime_now('%d %b %Y')", "strftime_now('%B %d, %Y %H:%M:%S %p %I %j %A %a %y %%')", "strftime_now('%-d|%e|%F|%T|%D|%R|%U|%W|%V|%G|%u|%w|%C|%h|%c|%x|%X|%f|%Z|%z')", "strftime_now(1)",
    ),
    # if, set, scopes
    "{% if no %}a{% elif n > 5 %}b{% elif t %}c{% else %}d{% endif %}", "{% if missing %}a{% else %}b{% endif %}", "{% if missing.x %}a{% endif %}", "{% if el %}a{% elif e %}b{% elif empty %}c{% elif 0.0 %}d{% else %}z{% endif %}", "{% if not s is defined or not t %}a{% else %}b{% endif %}",
    "{% set x = 1 %}{{ x }}{% set x = x + 1 %}{{ x }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = nums %}", "{% set (a, b), c = (1, 2), 3 %}{{ a }}{{ b }}{{ c }}", "{% set x = 1, 2 %}{{ x }}", "{% set x %} a {{ n }} {% endset %}[{{ x }}]", "{% set x | upper | trim %} abc {% endset %}[{{ x }}]", "{% if t %}{% set x = 1 %}{% endif %}{{ x }}",
    "{% set x = 1 %}{% for i in nums %}{% set x = i %}{{ x }}{% endfor %}{{ x }}", "{% for i in nums %}{{ x }}{% set x = i %}{% endfor %}", "{% set ns = namespace(x=0) %}{% for i in nums %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "{% set ns = namespace() %}{% set ns.a %}blk{% endset %}{{ ns.a }}{{ ns }}", "{% set d.x = 1 %}", "{% set missing.x = 1 %}", "{% set true = 1 %}", "{% set ns = namespace(a=[]) %}{% set _ = ns.a.append(1) %}{% set _ = ns.a.append(2) %}{{ ns.a }}{{ ns.a.pop(0) }}{{ ns.a }}{{ ns['a'] }}", "{% set l = [3, 1] %}{% set _ = l.extend([2]) %}{% set _ = l.insert(0, 9) %}{{ l }}{% set _ = l.reverse() %}{{ l }}{{ l.pop() }}{{ l.pop(9) }}",
    "{% set q = {'a': 1} %}{% set _ = q.update({'b': 2}, c=3) %}{{ q }}{{ q.pop('a') }}{{ q }}", "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% set x = 'o' %}{% with x = 'i', y = x %}{{ x }}{{ y }}{% endwith %}{{ x }}", "{% set nums = 5 %}{{ nums }}", "{% set x = namespace %}{{ x(a=2).a }}",
    # for
    "{% for i in nums %}{{ i }},{% endfor %}", "{% for k in d %}{{ k }},{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|items %}{{ k }};{% endfor %}", "{% for c in u %}[{{ c }}]{% endfor %}", "{% for i in missing %}x{% else %}none{% endfor %}", "{% for i in none %}x{% endfor %}", "{% for i in 5 %}x{% endfor %}", "{% for i in nums if i > 1 %}{{ i }}{{ loop.length }}{{ loop.index }}{% endfor %}", "{% for i in nums if i > 9 %}x{% else %}else{% endfor %}", "{% for a, b in [[1, 2], (3, 4), 'xy'] %}{{ a }}-{{ b }} {% endfor %}", "{% for a, b in [1, 2] %}{% endfor %}", "{% for (a, b), c in [[[1, 2], 3]] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for i in nums %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}", "{% for i in nums %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for i in [1, 1, 2, 2] %}{{ loop.changed(i) }} {% endfor %}", "{% for i in nums %}{% for j in nums %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}", "{% for i in nums %}{{ loop.previtem is defined }}{{ loop.nextitem is undefined }} {% endfor %}", "{% for i in nums %}{{ loop.zzz }}{% endfor %}", "{% for i in nums %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}", "{{ loop }}", "{% for m in messages %}{% if loop.previtem and loop.previtem.role == m.role %}dup{% endif %}{{ m.role }} {% endfor %}", "{% for m in messages[1:] if m.role == 'user' %}{{ loop.index0 }}{{ m.content }}{% endfor %}", "{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}",
    "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for i in nums %}{% for j in nums %}{% break %}{% endfor %}{{ i }}{% endfor %}", "{% for i in nums %}{% break %}{% else %}x{% endfor %}|", "{% for i in [1] %}{% continue %}{% else %}x{% endfor %}|", "{% for i in [1, 2] %}{% if i == 1 %}{% continue %}{% endif %}{% else %}x{% endfor %}|", "{% break %}", "{% for i in nums %}{{ i }}{% endfor %}{{ i }}", "{% for x in nums %}{% if loop.first %}{% set q = x %}{% endif %}{{ q }}{% endfor %}", "{% for i in [] %}{% else %}{% set z = 1 %}{{ z }}{% endfor %}{{ z }}", "{% for i in 1, 2 %}{{ i }}{% endfor %}", "{% for i in nums|sort %}{{ i }}{% endfor %}", "{% for i in nums if t %}{{ i if i else 0 }}{% endfor %}", "{% set g = nums|map('string') %}{% for i in g %}{{ i }}{% endfor %}{% for i in g %}{{ i }}{% else %}gone{% endfor %}", "{% for loopy in nums %}{{ loopy }}{% endfor %}{{ loopy }}", "{% set ns = namespace(seen=[]) %}{% for i in [1, 2, 1, 3] if i not in ns.seen %}{% set _ = ns.seen.append(i) %}{{ i }}{% endfor %}", "{% for k, v in d|dictsort %}{{ loop.index }}{{ k }}{% endfor %}", "{% for i in nums %}{% set outer = loop %}{% for j in nums %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    # macros and blocks
    "{% macro m(a, b=2) %}<{{ a }},{{ b }}>{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=5, a=4) }}{{ m() }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(z=2) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}", "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}", "{% macro m(a, b=[]) %}{% set _ = b.append(a) %}{{ b }}{% endmacro %}{{ m(1) }}{{ m(2) }}", "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% set x = 'g' %}{% macro m() %}{{ x }}{% endmacro %}{% for i in [1] %}{% set x = 'l' %}{{ m() }}{% endfor %}", "{% macro m() %}{{ y }}{% endmacro %}{% set y = 'late' %}{{ m() }}", "{% macro m() %}{% set x = 1 %}{% endmacro %}{{ m() }}{{ x }}", "{% macro m() -%}  a  {%- endmacro %}[{{ m() }}]", "{% set v = none %}{% macro m() %} x {% endmacro %}{{ m()|trim ~ '!' }}{{ m() is string }}{{ m()|length }}", "{{ m() }}{% macro m() %}x{% endmacro %}", "{% for i in nums %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m() %}{{ caller() }}|{{ caller() }}{% endmacro %}{% call m() %}hi{{ n }}{% endcall %}", "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}{{ b }}{% endcall %}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% macro m() %}{% endmacro %}{% call m() %}{% endcall %}", "{% macro m(x) %}{% for i in x %}{{ i }}{% endfor %}{% endmacro %}{{ m(*[nums]) }}{{ m(**{'x': 'ab'}) }}", "{% macro m() %}x{% endmacro %}{{ m.name }}", "{% macro outer() %}{% macro inner() %}i{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }}", "{% for i in nums %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}banana{% endfilter %}", "{% filter nosuch %}{% endfilter %}", "{% set x = 1 %}{% filter trim %} {% set x = 2 %}{{ x }} {% endfilter %}{{ x }}", "{% generation %}a{{ n }}{% endgeneration %}b", "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}\n{% endfor %}", "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    # syntax errors
    "{% if %}", "{% if t %}", "{% endif %}", "{{ }}", "{{ 1 + }}", "{{ (1 }}", "{{ 1) }}", "{{ [1 }}", "{{ 'a }}", "{% for %}", "{% for i nums %}{% endfor %}", "{% set x %}", "{{ a b }}", "{{ 1 2 }}", "{# open", "{% raw %}x", "{% nosuch %}", "{{ s| }}", "{{ s is }}", "{{ s. }}", "{{ f(a=1, 2) }}", "{{ {1} }}", "{% macro %}{% endmacro %}", "{% if t %}{% endfor %}", "{{ ! }}", "{{ s is string is string }}", "{% else %}", "{{ s", "{% if t", "{{ 1 if }}", "{% for i in nums %}{% else %}{% else %}{% endfor %}", "{{ not }}", "{% set 1 = 2 %}", "{{ x = 1 }}",
    # what templates do with messages
    "{{ messages[0]['content'] if messages[0]['role'] == 'system' else 'default' }}", "{% set c = messages[2].content %}{{ c.split('</think>')[-1].lstrip('\\n') }}|{{ c.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}", "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text if p.type == 'text' else '<img>' }}{% endfor %}{% endif %}\n{% endfor %}", "{% if messages[0].role == 'system' %}{% set sys = messages[0].content %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ sys }}{{ rest|length }}", "{% if tools is defined and tools %}T{% else %}no tools{% endif %}", "{{ messages|map(attribute='role')|join(',') }}", "{{ (messages|selectattr('role', 'equalto', 'user')|list)[-1].content[0].text }}", "{{ messages[2].tool_calls is none }}{{ messages[1].tool_calls is defined }}{{ messages[2].get('tool_calls') or [] }}", "{{ '<|' ~ messages[1].role ~ '|>' + messages[1].content|trim + '\\n' }}", "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 1) %}{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}",
]


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise TemplateError(message)

    def strftime_now(form):
        return datetime.datetime(2026, 1, 2, 3, 4, 5).strftime(form)

    env = SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
    env.filters["tojson"] = tojson
    env.filters["from_json"] = json.loads
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def main():
    cases = []
    for source in CASES:
        context = json.loads(json.dumps(CONTEXT))
        try:
            cases.append([source, environment().from_string(source).render(**context)])
        except Exception:
            cases.append([source])
    addresses = [case for case in cases if " at 0x" in case[-1]]
    cases = [case for case in cases if case not in addresses]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    text = '{"context": %s,\n"cases": [\n%s\n]}\n' % (json.dumps(CONTEXT, ensure_ascii=False), lines)
    pathlib.Path(__file__).with_name("jinja_cases.json").write_text(text, encoding="utf-8")
    print(len(cases), "cases,", sum(len(case) == 1 for case in cases), "of them failures;", len(addresses), "print addresses and are left out")


if __name__ == "__main__":
    main()
