"""Refined traces of a prompt set, on a Ray cluster, into a folder of Parquet files.

    python -m jobs.generate --config configs/embedded.yaml [key=value ...]

Run it again to resume: no committed row is made twice. Exit codes: 0 done, 2 bad config,
input, model or run folder (held, out of reach), 3 done with dead letters (or ended early because
of them), 130 interrupted, 1 the run could not go on (disk full, cluster gone).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs import command, console
from pipeline.config import load, to_yaml
from pipeline.generate.config import GenerateConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    parser = command.parser("generate", __doc__)
    parser.add_argument("--limit", type=int, help="the same as prompts.limit")
    parser.add_argument("--retry-dead", action="store_true", help="try dead letters again")
    options = parser.parse_intermixed_args(arguments)
    overrides = list(options.overrides)
    if options.limit is not None:
        overrides.append(f"prompts.limit={options.limit}")

    def work() -> int:
        config = load(GenerateConfig, options.config, overrides)
        if options.dry_run:
            return _preview(config)
        return _generate(config, retry_dead=options.retry_dead)

    return command.exit_code(work)


def _generate(config: GenerateConfig, *, retry_dead: bool) -> int:
    from jobs.progress import Progress  # noqa: PLC0415 - ray: not before the config is right
    from pipeline.generate.job import generate  # noqa: PLC0415

    with console.terminable(), Progress() as progress:
        try:
            outcome = generate(config, progress, retry_dead=retry_dead)
        except KeyboardInterrupt:
            progress.close()
            console.say(
                f"interrupted; what is committed stays in {config.run_dir}, and the same "
                "command goes on from there"
            )
            return 130
    console.close_table(config.run_dir, outcome)
    return 3 if outcome.dead or outcome.hopeless else 0


def _preview(config: GenerateConfig) -> int:
    from pipeline.generate.preview import preview  # noqa: PLC0415 - tokenizers are slow to import

    console.say(to_yaml(config).rstrip())
    found = preview(config)
    console.say(f"\nfirst prompt ({found.first.id}), as the model reads it:\n{found.rendered}\n")
    console.say(
        f"{found.prompts} prompts x {config.samples_per_prompt} samples = {found.rows} rows; "
        f"{found.finished} finished and {found.dead} dead in {config.run_dir}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
