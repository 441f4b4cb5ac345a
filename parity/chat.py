"""Writes engine/text/testdata/chat.json and engine/text/jinja/testdata/golden.json:
templates, and what transformers makes of them with its settings of Jinja.

    pip install transformers==4.57.6 jinja2==3.1.6
    python parity/chat.py
"""

import json
import pathlib

from transformers.utils.chat_template_utils import _compile_jinja_template as compile_template

TEXT = pathlib.Path(__file__).resolve().parent.parent / "engine" / "text"

# The constructs of the templates in use, in templates of our own.
TEMPLATES = {
    "chatml": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "headers": """{% set loop_messages = messages %}
{% for message in loop_messages %}
    {% set content = '<h>' + message['role'] + '</h>

' + message['content'] | trim + '<end>' %}
    {% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}
    {{ content }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<h>assistant</h>

' }}{% endif %}
""",
    "turns": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set prefix = messages[0]['content'][0]['text'] -%}
    {%- endif -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Roles must alternate") }}
    {%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<turn>' + role + '
' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- endif -%}
    {{ '</turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<turn>model
' }}
{%- endif -%}
""",
    "thinking": """{%- if tools %}{{ raise_exception('no tools') }}{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<sys>' + messages[0].content + '</sys>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<' + message.role + '>' + message.content + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set thought = '' %}
        {%- if message.thought is defined and message.thought is not none %}
            {%- set thought = message.thought %}
        {%- elif '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
            {%- set thought = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or (not loop.last and thought)) %}
            {{- '<a><think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<a>' + content }}
        {%- endif %}
        {%- if message.tool_calls %}{{- message.tool_calls | tojson }}{%- endif %}
        {{- eos_token }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<a>' }}{%- if think is defined and think is false %}{{- '<think></think>' }}{%- endif %}{%- endif %}
""",
    "inst": "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + message['content'].strip() + ' ' + eos_token }}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
}

CONVERSATIONS = [
    [("user", "Hi")],
    [("user", "  What is light?\n")],
    [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "It's \"quoted\" <|im_end|> & more \u00e9\U0001f600")],
    [("user", "a"), ("assistant", "<think>\nhm, \nso\n</think>\n\nb"), ("user", "c"), ("assistant", "<think>x</think>d")],
    [("user", "a"), ("user", "b")],
    [("system", "only")],
    [],
]

A = {"items": [1, 2.5, "x", None, True, [1, "a'b"], {"k": "v\n"}], "m": {"b": 1, "a": [3, 1, 2]}, "s": "  Hello, W\u00f6rld \U0001f600\n", "people": [{"n": "bo", "a": {"x": 1}}, {"n": "Al", "a": {"x": 2}, "ok": True}], "zero": 0, "none": None}

EXPRESSIONS = r"""
1 + 2 * 3 - 4 / 2 ;; 7 // 2, -7 // 2, 7 % 3, -7 % 3, 2 ** 10, 2 ** -1 ;; 7.5 // 2, 7.5 % 2, 1e3, 1.5e-7, 1e20, 100000000000000000.0 ;; 'a' ~ 1 ~ none ~ true ;; 'ab' * 3, 2 * 'x', 'a' + "b" 'c'
1 < 2 < 3, 1 < 3 < 2, 1 == 1.0, 'a' == "a", none == none, [1] == [1], (1,) == [1], {'a': 1} == {'a': 1.0} ;; 'b' in 'abc', 'z' not in 'abc', 1 in [1, 2], 'a' in m, not 1 in [2] ;; true and 0 or 'x', not zero, not not 'a' ;; 'yes' if zero else 'no', ('x' if false) is defined
items, items[0], items[-1], items[1:3], items[::-1], items[-2:], items[:100], items[5][1] ;; items[99] ;; m, m.b, m['a'], m.a[0], m.a[::2] ;; m.zzz ;; m['zzz'] ;; s[2], s[-2], s[2:7], s[::-1], s[5:1:-1], s[:-100:-1], s[100:] ;; missing ;; missing is defined, m.b is defined, m.q is undefined
s | trim ;; s | upper ;; s | lower ;; s | title ;; s | capitalize ;; s | length ;; s.strip(), s.lstrip(), s.rstrip('\n'), s.split(), s.split(','), 'a,b,c'.split(',', 1), 'a,b,c'.rsplit(',', 1), ' a b  c '.split(none, 1), ' a b  c '.rsplit(none, 1) ;; s.startswith('  H'), s.endswith('x'), s.endswith(('x', '\n')), s.find('W'), s.replace('l', 'L'), s.replace('l', 'L', 1), s | replace('Hello', 'Bye') ;; s.upper(), s.title(), 'aBc'.capitalize(), ', '.join(['a', 'b']), 'a\nb\r\nc'.splitlines(), 'abc'.removeprefix('a')
items | tojson ;; m | tojson ;; s | tojson, ('<&>' | tojson) ;; m | tojson(indent=2) ;; items | tojson(indent=4) ;; [] | tojson(indent=2), ({} | tojson)
items | first, items | last, items | length, items | count, [1] | first ;; m | length, m.items() | list, m.keys() | list, m.values() | list, m.get('b'), m.get('z'), m.get('z', 7) ;; m | dictsort, m | items | list ;; m.a | sort, m.a | sort(reverse=true), ['b', 'A', 'c'] | sort, m.a | max, m.a | min, m.a | sum, m.a | join('-'), m.a | reverse | list
people | map(attribute='n') | list, people | map(attribute='a.x') | list, ['a', 'b'] | map('upper') | list ;; people | selectattr('n', 'equalto', 'bo') | list | length, people | selectattr('ok', 'defined') | map(attribute='n') | join, people | rejectattr('ok') | list | length, [1, 2, 3, 4] | select('odd') | list, [0, 1] | select | list, [1, 2, 3] | reject('gt', 1) | list, people | sort(attribute='n') | map(attribute='n') | join(',')
missing | default('d'), none | default('d'), '' | default('d', true), zero | d(5, boolean=true) ;; '12' | int, 'x' | int, '3.7' | int, 3.9 | int, '2.5' | float, 'x' | int(default=4), 3 | string, [1] | string ;; 'a\nb' | indent, 'a\n\nb' | indent(2, true), 'abc' | list, [1, 1, 'a', 'A'] | unique | list ;; -5 | abs, 2.5 | round, 2.567 | round(2), 3 | float ;; '<a>' | e
1 is odd, 2 is even, 3 is divisibleby 3, 3 is divisibleby(2), none is none, 1 is number, 'a' is string, true is boolean, true is true, false is false, 1.0 is float, 1 is integer, m is mapping, items is sequence, items is iterable, 1 is iterable, 1 is eq 1, 1 is in [1], 2 is not in [1], 'a' is lower, 'A' is upper, 1 is ne 2, 2 is gt 1, 3 is ge(3), range is callable
range(3) | list, range(1, 4) | list, range(5, 0, -2) | list ;; 'it\'s', "q\"q", 'a\tb\\', 'é\u00e9\x41', '\q' ;; [1, 2,], (1, 2), (1,), (), {'a': 1, 'b': [1]}, {} ;; -zero, +1, -(1 + 2), -2 ** 2 ;; true, True, false, none, None ;; 1_000 ;; namespace(a=1).a ;; dict(a=1, b=2)
"""

TEMPLATES_BY_HAND = [
    "a {%- if true %} b {% endif %} c", "a\n{% if true %}\nb\n{% endif %}\nc\n", "a\n  {% if true %}\n  b\n  {% endif %}\nc\n\n", "  {{ 1 }}\n  {{- 2 -}}\n  3", "a {# c #} b\n{# d #}\ne {#- f -#} g",
    "  {%+ if true %}x{% endif +%}\ny", "{% raw %} {{ x }} {% y %} {% endraw %}\nz", "a{%- raw -%}  {{ x }}  {%- endraw -%}  b", "x{% if true %}  {% endif %}y", "{{ '}}' }}{{ {'a': {'b': 1}}['a']['b'] }}", "{% if true %}a{% elif 1 %}b{% else %}c{% endif %}{% if zero %}a{% elif none %}b{% else %}c{% endif %}",
    "{% for x in items %}{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}:{{ x }};{% endfor %}", "{% for k, v in m.items() %}{{ k }}={{ v }} {% endfor %}", "{% for k in m %}{{ k }}{% else %}none{% endfor %}{% for k in [] %}x{% else %}none{% endfor %}",
    "{% for i in range(10) if i is odd %}{% if i == 7 %}{% break %}{% endif %}{% if i == 3 %}{% continue %}{% endif %}{{ i }}{{ loop.index0 }},{% endfor %}", "{% for i in range(3) %}{{ loop.previtem is defined }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for a in [1, 2] %}{% for b in [3, 4] %}{{ a }}{{ b }}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "{% set a, b = 1, [2] %}{{ a }}{{ b }}", "{% set x %}a{{ 1 }}{% endset %}{{ x }}{% set y | upper | trim %} b {% endset %}{{ y }}", "{% if true %}{% set q = 1 %}{% endif %}{{ q }}",
    "{% macro f(a, b='d', c=none) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(1, c=3) }}{{ f() }}", "{% macro outer(x) -%}\n  {{ x }}\n{%- endmacro %}{{ outer('a') | upper }}", "{% generation %}a{{ 1 }}{% endgeneration %}b", "{%- set m2 = m -%}{{ m2 }}",
    "{% for p in people %}{{ p.n }}{% if not loop.last %}, {% endif %}{% endfor %}", "{% for (k, v) in m | items %}{{ k }}{% endfor %}", "{{ 'a' if zero == 0 and not none else 'b' }}{{ items | length > 3 }}{{ 'x' in s | lower }}", "line\r\nline\rline\n",
    "{{ missing.a }}", "{{ raise_exception('no') }}", "{{ 1 + 'a' }}", "{{ 1 / 0 }}", "{{ 'a' < 1 }}", "{{ missing() }}", "{% for x in 1 %}{% endfor %}", "{% if %}", "{{ 1 +", "{% for x in y %}", "{{ 'abc }}", "{% endfor %}", "{{ a b }}", "{% unknown %}", "{{ 1 | nofilter }}", "{{ 1 is notest }}", "{% set a, b = [1] %}", "{# open",
]


def main():
    chat = {"templates": TEMPLATES, "conversations": CONVERSATIONS, "rendered": {}}
    for name, source in TEMPLATES.items():
        t = compile_template(source)
        rows = []
        for c in CONVERSATIONS:
            for generate in [False, True]:
                try:
                    rows.append(t.render(messages=[{"role": r, "content": x} for r, x in c], tools=None, documents=None, add_generation_prompt=generate, bos_token="<s>", eos_token="</s>"))
                except Exception:
                    rows.append(None)
        chat["rendered"][name] = rows
    (TEXT / "testdata" / "chat.json").write_text(json.dumps(chat, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    sources = TEMPLATES_BY_HAND + ["{{ " + e.strip() + " }}" for line in EXPRESSIONS.strip().splitlines() for e in line.split(";;")]
    rows = []
    for s in sources:
        try:
            rows.append([s, compile_template(s).render(**A)])
        except Exception:
            rows.append([s, None])
    out = TEXT / "jinja" / "testdata"
    out.mkdir(exist_ok=True)
    (out / "golden.json").write_text(json.dumps({"variables": A, "templates": rows}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


main()
