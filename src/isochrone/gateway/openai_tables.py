"""What becomes of each field of OpenAI's chat and completions bodies; the reference page is printed from here.

The third table of a body is its `REFUSED`, by which its parser goes.
"""

from __future__ import annotations

_COMMON = {
    "model": "an id that `/v1/models` lists",
    "temperature": "0 to 2; 0 takes the likeliest token",
    "top_p": "0 to 1",
    "frequency_penalty": "-2 to 2",
    "presence_penalty": "-2 to 2",
    "logit_bias": "token id to -100 to 100, up to 1,024 of them",
    "seed": "equal requests with equal seeds have equal answers, whatever runs beside them",
    "stop": "a text or up to 16, none of which is shown; they end words, never the arguments of a call",
    "n": "answers to one prompt, up to 128",
    "stream": "server-sent events, ended by `[DONE]`",
    "stream_options": "`include_usage`; `include_obfuscation`, off unless asked for, pads chunks to 64 bytes",
}
OWN = {
    "top_k": "0 and -1 are off",
    "min_p": "0 to 1",
    "repetition_penalty": "over 0, up to 10",
    "stop_token_ids": "tokens that end the answer, up to 64",
    "ignore_eos": "go on after an end token",
    "budget": "how long the caller can wait: a class, or `ttft`, `itl` and `total` with a unit",
    "cache": '`{"pin": true, "ttl": 600}` keeps the prompt cached for so many seconds, within the key\'s quota',
    "drafts": "whether tokens may be guessed ahead; the text is the same",
    "structured_outputs": "one of `json`, `json_object`, `regex`, `choice`, `grammar` (Lark): the answer fits it",
}
CHAT_OWN = {
    "add_generation_prompt": "false leaves the prompt without the words that make the model answer",
    "chat_template_kwargs": "further names for the model's template; one that it does not know is refused",
}
COMPLETIONS_OWN = {"add_special_tokens": "false leaves out the opening token that the model expects around a text"}
CHAT = _COMMON | {
    "messages": "roles `system`, `developer` (read as `system`), `user`, `assistant` with `tool_calls` and "
    "`reasoning_content`, `tool`, `function`; a text or text parts",
    "max_completion_tokens": "thoughts and calls count too",
    "max_tokens": "the older name of `max_completion_tokens`, which wins",
    "logprobs": "of every token, those of thoughts and calls included",
    "top_logprobs": "0 to 20",
    "tools": "functions; their calls always parse and, as far as the schema can be enforced, fit it; `strict` refuses "
    "a schema that cannot. Custom tools are refused",
    "tool_choice": "`none` (the tools are not shown), `auto`, `required`, a function, `allowed_tools`",
    "parallel_tool_calls": "false: one call an answer; GPT-OSS makes one in any case",
    "response_format": "`text`, `json_object`, `json_schema`: the answer always fits, `strict` or not; a keyword that "
    "cannot be enforced is refused by name",
    "reasoning_effort": "given to the model's template as `reasoning_effort` and `enable_thinking`; a model whose "
    "template knows neither thinks as it always does",
}
CHAT_ACCEPTED = {
    "user": "keys tell callers apart",
    "metadata": "nothing is stored",
    "store": "nothing is stored; see `/v1/responses`",
    "safety_identifier": "keys tell callers apart",
    "prompt_cache_key": "prefixes are shared within a key anyway",
    "prompt_cache_retention": "prefixes are kept for as long as memory allows; see `cache`",
}
COMPLETIONS = _COMMON | {
    "prompt": "a text, texts, one list of token ids, or several",
    "max_tokens": "16 without; 0 only reads the prompt",
    "echo": "the prompt comes back, with its scores where `logprobs` is given",
    "logprobs": "0 to 20",
    "best_of": "no more than `n`",
}
COMPLETIONS_ACCEPTED = {"user": "keys tell callers apart"}
