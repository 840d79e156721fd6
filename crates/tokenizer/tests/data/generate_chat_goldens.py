"""Writes chat_goldens.json: chat templates, conversations, and what transformers makes of them.

Run with transformers 5.8.0 and jinja2 3.1: python generate_chat_goldens.py
The templates are written for this test, in the styles that Llama models use.
"""

import datetime
import json
import pathlib

import jinja2
from transformers.utils import chat_template_utils

NOW = datetime.datetime(2024, 7, 6, 15, 4, 5)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = Clock

CHATML = """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe helpful.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAMA2 = """\
{%- if messages[0]['role'] == 'system' -%}
    {%- set turns = messages[1:] -%}
    {%- set system = '<<SYS>>\\n' + messages[0]['content'].strip() + '\\n<</SYS>>\\n\\n' -%}
{%- else -%}
    {%- set turns = messages -%}
    {%- set system = '' -%}
{%- endif -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('user and assistant have to take turns, message ' ~ loop.index0 ~ ' is of ' ~ message['role']) }}
    {%- endif -%}
    {%- set text = system + message['content'] if loop.index0 == 0 else message['content'] -%}
    {%- if message['role'] == 'user' -%}
        {{ bos_token + '[INST] ' + text.strip() + ' [/INST]' }}
    {%- elif message['role'] == 'assistant' -%}
        {{ ' ' + text.strip() + ' ' + eos_token }}
    {%- endif -%}
{%- endfor -%}
"""

LLAMA31 = """\
{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {{- "Functions:\\n\\n" }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first = messages[0]['content'] | trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("no user message to put the functions into") }}
    {%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
    {{- "Answer with a call of one of these:\\n\\n" }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first + "<|eot_id|>" }}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
"""

PARTS = """\
{%- macro text(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- else -%}
        {%- for part in content if part.type == 'text' -%}{{ part.text }}{%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(users=0, last=none, seen=[]) -%}
{%- for message in messages -%}
    {%- if message.role == 'stop' -%}{%- break -%}{%- endif -%}
    {%- if message.role == 'skip' -%}{%- continue -%}{%- endif -%}
    {%- if message.role == 'user' -%}{%- set ns.users = ns.users + 1 -%}{%- endif -%}
    {%- set ns.last = message.role -%}
    {%- set ns.seen = ns.seen + [message.role] -%}
    <{{ message.role }} {{ loop.index }}/{{ loop.length }}>{{ text(message.content) }}
{% endfor -%}
users={{ ns.users }} last={{ ns.last }} seen={{ ns.seen | join(',') }}
"""

GENERATION = """\
{% for message in messages %}
  {%- if message.role == 'assistant' %}
    {%- generation -%}
    A: {{ message.content }}
    {% endgeneration %}
  {%- else %}
Q: {{ message.content }}
  {% endif %}
{% endfor %}
{% if add_generation_prompt %}{% generation %}A:{%- endgeneration %}{% endif %}
"""

PYTHON = """\
{%- set m = messages[0] -%}
{{ m.content.split(' ')[-1] }}|{{ m.content.upper().lower().title() }}|{{ m.content.strip('H o') }}|{{ m.content.rstrip() }}|{{ m.content.lstrip() }}
{{ m.content.startswith('Hel') }}|{{ m.content.endswith(('lo', 'ld')) }}|{{ m.content.replace('l', 'L') }}|{{ m.content.find('w') }}|{{ ' '.join(['a', 'b']) }}
{{ m.get('content') }}|{{ m.get('nothing') }}|{{ m.get('nothing', 'default') }}|{{ m.keys() | list | join(',') }}|{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}
{{ true }}|{{ none }}|{{ 1.0 }}|{{ 7 // 2 }}|{{ 7 / 2 }}|{{ -7 % 3 }}|{{ 2 ** 10 }}|{{ missing }}|{{ missing is defined }}|{{ missing or 'empty' }}|{{ 'x' ~ 1 ~ true ~ none }}
{{ [1, 'a', none, true, 1.5] }}|{{ {'a': 1, 'b': [true]} }}|{{ (1, 2) }}|{{ "it's" }}|{{ ["it's", 'say "x"', 'line\\n'] }}
{{ messages[::-1] | map(attribute='role') | list }}|{{ messages | selectattr('role', 'equalto', 'user') | list | length }}|{{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='content') | join('+') }}
{{ m.content[1:-1] }}|{{ m.content[-5:] }}|{{ 'H' in m.content }}|{{ m.content | length }}|{{ m.content | replace('o', '0') }}|{{ '  x ' | trim }}|{{ 'a,b' .split(',') | last }}
{{ range(3) | list }}|{{ range(5, 0, -2) | list }}|{{ dict(a=1) }}|{{ [3, 1, 2] | sort | reverse | list }}|{{ '%s has %d' | format('x', 3) }}|{{ 'é' | tojson }}|{{ 5 is odd }}|{{ m is mapping }}|{{ messages is sequence }}|{{ none is none }}
{{ 'yes' if m.content == 'Hello world' else 'no' }}|{{ m.role in ['user', 'system'] }}|{{ not false and true }}|{{ 1 if false }}|{{ m['content']['0'] is defined }}|{{ 3 | string + 'x' }}|{{ '12' | int + 1 }}|{{ "a\\tb" }}
"""

TOJSON = """\
{{ data | tojson }}
{{ data | tojson(indent=2) }}
{{ data | tojson(ensure_ascii=true) }}
{{ data | tojson(sort_keys=True, separators=(',', ':')) }}
{{ data | tojson(indent=none) }}
{{ data | tojson(indent='--') }}
{{ data | tojson(indent=0) }}
{{ [] | tojson(indent=2) }}{{ {} | tojson(indent=2) }}{{ {1: none, 2.5: 'x'} | tojson }}{{ "<b>&'" | tojson }}
"""

WHITESPACE = """\
   {% if true %}
 kept
   {% endif %}
{# gone #}
a {%- if true %}  b{% endif +%}

   {%+ if true %}c{% endif %}

{{ 'd' }}
   {{- 'e' -}}
   f
{% raw %}{{ not rendered }}{% endraw %}

"""

CLOCK = "{{ strftime_now('%Y-%m-%d %H:%M:%S') }}|{{ strftime_now('%d %B %Y, %A') }}|{{ strftime_now('%b %-d %y %j %I%p %%') }}"

MISSING = "{{ messages[0].nothing.deeper }}"

TALK = [
    {"role": "system", "content": " You know birds. "},
    {"role": "user", "content": "Hi!  "},
    {"role": "assistant", "content": "Hello — what's up? <b>&"},
    {"role": "user", "content": "Naïve \"question\"\nwith lines ☃ 🦙"},
]
HELLO = [{"role": "user", "content": "Hello world"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a <place>, it's \"now\" & in °C",
            "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]
CALLS = [
    {"role": "user", "content": "How warm is it in Zürich?"},
    {
        "role": "assistant",
        "tool_calls": [
            {"type": "function", "function": {"name": "weather", "arguments": {"place": "Zürich", "days": 1, "f": 0.5}}}
        ],
    },
    {"role": "tool", "content": {"temperature": 21.0, "wind": None, "sunny": True, "hours": [1, 2]}},
    {"role": "ipython", "content": "21"},
]
DATA = {
    "z": [1, -2.5, 1e16, 1e-7, 0.1, True, None],
    "a": {"text": "tab\t \"quote\" \\ ü ☃ 🦙 \u0001 \u007f </script>", "empty": [], "none": {}},
    "big": 12345678901234567890,
}
LLAMA = {"bos_token": "<s>", "eos_token": "</s>"}

TEMPLATES = {
    "chatml": CHATML,
    "llama2": LLAMA2,
    "llama31": LLAMA31,
    "zephyr": ZEPHYR,
    "parts": PARTS,
    "generation": GENERATION,
    "python": PYTHON,
    "tojson": TOJSON,
    "whitespace": WHITESPACE,
    "clock": CLOCK,
    "missing": MISSING,
}

CASES = [
    ("chatml", "chatml", TALK, {}),
    ("chatml, generation prompt", "chatml", HELLO, {"add_generation_prompt": True}),
    ("chatml, no messages", "chatml", [], {"add_generation_prompt": True}),
    ("chatml, content is a list", "chatml", [{"role": "user", "content": ["x"]}], {}),
    ("llama2", "llama2", TALK, LLAMA),
    ("llama2, one turn", "llama2", HELLO, LLAMA),
    ("llama2, refused", "llama2", HELLO + HELLO, LLAMA),
    ("llama31", "llama31", TALK, {"bos_token": "<|begin_of_text|>", "add_generation_prompt": True}),
    ("llama31, date", "llama31", HELLO, {"bos_token": "", "date_string": "1 Jan 2000"}),
    ("llama31, tools in user message", "llama31", CALLS, {"bos_token": "", "tools": TOOLS}),
    ("llama31, tools in system", "llama31", CALLS, {"bos_token": "", "tools": TOOLS, "tools_in_user_message": False}),
    ("llama31, custom tools", "llama31", HELLO, {"bos_token": "", "custom_tools": TOOLS[1:]}),
    ("llama31, no bos", "llama31", HELLO, {}),
    ("llama31, empty tools", "llama31", HELLO, {"bos_token": "", "tools": []}),
    ("llama31, two calls", "llama31", [{"role": "assistant", "tool_calls": [1, 2]}], {}),
    ("zephyr", "zephyr", TALK, {**LLAMA, "add_generation_prompt": True}),
    ("zephyr, last message only", "zephyr", HELLO, LLAMA),
    (
        "parts",
        "parts",
        [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]},
            {"role": "skip", "content": ""},
            {"role": "user", "content": "c"},
            {"role": "stop", "content": ""},
            {"role": "user", "content": "d"},
        ],
        {},
    ),
    ("generation blocks", "generation", TALK, {"add_generation_prompt": True}),
    ("python", "python", HELLO + TALK[2:3], {}),
    ("tojson", "tojson", HELLO, {"data": DATA}),
    ("white space", "whitespace", HELLO, {}),
    ("clock", "clock", HELLO, {}),
    ("attribute of undefined", "missing", HELLO, {}),
    ("continue", "chatml", TALK[:3], {"continue_final_message": True}),
    ("continue, trimmed", "llama2", TALK[:2] + [{"role": "assistant", "content": "Well, "}], {**LLAMA, "continue_final_message": True}),
    ("continue, space kept", "zephyr", HELLO + [{"role": "assistant", "content": "Well, "}], {**LLAMA, "continue_final_message": True}),
    (
        "continue, parts",
        "parts",
        [{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b "}]}],
        {"continue_final_message": True},
    ),
    ("continue, left out", "llama31", [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [1]}], {"continue_final_message": True}),
]


def golden(name, template, messages, options):
    case = {"name": name, "template": template, "messages": messages, "options": options}
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            [messages], chat_template=TEMPLATES[template], **options
        )
        case["text"] = rendered[0]
    except jinja2.exceptions.TemplateError as error:
        raised = type(error) is jinja2.exceptions.TemplateError
        case["raised" if raised else "error"] = str(error)
    except (TypeError, ValueError) as error:
        case["error"] = str(error)
    return case


def main():
    cases = [golden(*case) for case in CASES]
    path = pathlib.Path(__file__).with_name("chat_goldens.json")
    goldens = {"templates": TEMPLATES, "cases": cases}
    path.write_text(json.dumps(goldens, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
