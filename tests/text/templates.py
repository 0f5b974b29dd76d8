"""Chat templates written for these tests, each in the manner of a family that people run."""

# ruff: noqa: E501  (a template is written as its model sees it)

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}"
    "{% endif %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

HEADERS = """\
{{- bos_token }}
{%- if custom_date is not defined %}
    {%- set custom_date = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday: " + custom_date + "\\n\\n" }}
{%- if tools is not none %}
    {{- "Functions:\\n\\n" }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if message.tool_calls|length != 1 %}
            {{- raise_exception("one tool call at a time, please") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or (message.content is iterable and message.content is not string) %}
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

INSTRUCTIONS = """\
{%- if messages[0]["role"] == "system" %}{% set first = messages[0]["content"] + "\\n\\n" %}{% set rest = messages[1:] %}
{%- else %}{% set first = "" %}{% set rest = messages %}{% endif %}
{{- bos_token }}
{%- for message in rest %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('user and assistant must take turns') }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {{- "[INST] " ~ (first if loop.first else "") ~ message["content"].strip() ~ " [/INST]" }}
    {%- elif message["role"] == "assistant" %}
        {{- " " ~ message["content"]|trim ~ eos_token }}
    {%- endif %}
{%- endfor %}
"""

TOOLS_XML = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- "# Tools\\n<tools>" }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi and message.role == "user" and message.content is string
          and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi = false %}{%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last and thought %}{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}{%- endif %}
        {{- content.lstrip('\\n') }}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
                {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
                {{- '<tool_call>\\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}{{- tool_call.arguments }}
                {%- else %}{{- tool_call.arguments | tojson }}{%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}{{- content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""

TURNS = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{ '<start_of_turn>' + role + '\\n' + (message['content'] or '') | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""

MACRO = """\
{%- macro show(value, depth=0) -%}
    {%- if value is mapping -%}
        {%- for key, item in value.items() -%}
            {{ '  ' * depth }}{{ key }}: {% if item is mapping %}{{ '\\n' }}{{ show(item, depth + 1) }}{% else %}{{ item }}{{ '\\n' }}{% endif %}
        {%- endfor -%}
    {%- else -%}{{ value }}{%- endif -%}
{%- endmacro -%}
{% for tool in tools or [] %}{{ show(tool) }}{% endfor %}
{% for m in messages if m.role != 'tool' %}{{ loop.index }}/{{ loop.length }} {{ m.role | upper }}: {{ m.content | default('', true) }}
{% else %}nobody spoke
{% endfor %}
"""

LOOPS = """\
{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}{% if loop.index > 3 %}{% break %}{% endif -%}
{{ loop.cycle('odd', 'even') }} {{ m.role|title }} {{ '(first)' if loop.first }}{{ '(last)' if loop.last }}
{% endfor %}
{{ messages|map(attribute='role')|join(', ') }} {{ messages|selectattr('role', 'equalto', 'user')|list|length }}
{{ messages|rejectattr('role', 'equalto', 'user')|map(attribute='role')|list }}
"""

GENERATION = """\
{% for m in messages %}{% if m.role == 'assistant' %}<a>{% generation %}{{ m.content }}{% endgeneration %}</a>
{%- else %}<u>{{ m.content }}</u>{% endif %}
{% endfor %}
"""

PARTS = """\
{%- for message in messages %}{{ message.role }}:
{%- if message.content is string %} {{ message.content }}
{%- elif message.content %}{% for part in message.content %}
{%- if part.type == 'text' %} {{ part.text }}{% elif part.type in ['image', 'image_url'] %} <image>{% endif %}{% endfor %}
{%- endif %}{{ eos_token }}{% endfor %}
{%- set last = messages[-1] %}
{%- if last['content'] is string and last['content'].find('?') >= 0 %} (a question){% endif %}
{%- if last.get('name') %} {{ last.get('name', 'x') }}{% endif %}
"""

METHODS = """\
{%- for m in messages if m.content is string %}
{%- set words = m.content.split() %}{%- set lines = m.content.splitlines() %}
{{- words|length }} {{ lines|length }} {{ m.content.replace('e', '3') }} {{ m.content.upper().lower() }}{{ m.role.title() }}|
{{- m.content.strip().rstrip('.').lstrip('W') }}|{{ m.content.count('a') }}|{{ ','.join(words) }}|{{ m.content[:5] }}|{{ m.content[-3:] }}
{%- endfor %}
{{- messages[0].keys()|list }}{{ messages[0].values()|list }}{{ 'role' in messages[0] }}{{ 7 // 2 }} {{ 7 % 4 }} {{ 1.5 + 2 }} {{ [1, 2] + [3] }}
{{- true }} {{ none }} {{ [true, none, 'x', 1.0] }} {{ {'a': 1} }} {{ not messages }} {{ 'a' ~ 1 ~ none }} {{ "a" < "b" }}
"""

JSON = """\
{%- for tool in tools or [] %}{{ tool|tojson }}|{{ tool|tojson(indent=2) }}|{{ tool|tojson(ensure_ascii=True) }}|
{{- tool|tojson(separators=(',', ':'), sort_keys=True) }}{% endfor %}
{{- messages|tojson }}{{ 'é<>&"'|tojson }}{{ none|tojson }}{{ [1, 2.5, true]|tojson }}
"""

SETS = """\
{%- set ns = namespace(text='', n=0, seen=[]) %}
{%- for m in messages %}
  {%- set ns.n = ns.n + 1 %}{%- set ns.text = ns.text ~ m.role[0] %}{%- set ns.seen = ns.seen + [m.role] %}
{%- endfor %}
{%- set block %}{{ ns.n }}:{{ ns.text }}{% endset %}
{{- block }} {{ ns.seen|unique|list|sort|join('/') }} {{ ns.seen|first }}-{{ ns.seen|last }}
{% filter upper %}shouted {{ block }}{% endfilter %} {# a remark #}
{%- if ns.n is odd %} odd{% elif ns.n is divisibleby 2 %} even{% endif %}
{%- raw %}{{ not a template }}{% endraw %}
"""

ALL = {name.lower(): value for name, value in list(globals().items()) if name.isupper() and isinstance(value, str)}
