"""`aecodec explore cluster`."""

from __future__ import annotations

from pathlib import Path

import click

from aecodec.cli import explore_options as shared

HELP = """Cluster latents with k-means; where there are classes, say how well they agree.

SOURCE is a file of latents (.npz, .npy) or a model, for which --data names the images. ARI, the
adjusted Rand index, is 1 where clusters and classes are the same and about 0 by chance; NMI,
normalised mutual information, is 1 and 0.

\b
Examples:
  aecodec explore cluster signs.npz --out clusters.png
  aecodec explore cluster signs.npz -k 10 --method tsne --json --out clusters.png
"""


@click.command(help=HELP)
@click.argument("source", metavar="SOURCE")
@shared.picture
@click.option("-k", type=click.IntRange(min=1), help="Clusters.  [default: one a class]")
@shared.method
@shared.seed
@shared.data
@shared.limit
@shared.test_files
@shared.device
def command(
    source: str,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
    k: int | None,
    method: str,
    seed: int,
    data: Path | None,
    limit: int | None,
    test_files: Path | None,
    device: str,
) -> None:
    """Cluster and draw."""
    from aecodec import explore

    shared.prepare(out, force, source)
    (table,) = shared.load_latents(
        [source], data, limit=limit, test_files=test_files, device=device
    )
    found = explore.cluster(table, k, method=method, seed=seed)
    if found.ari is not None:
        shared.say(f"{len(found.centres)} clusters: ARI {found.ari:.3f}, NMI {found.nmi:.3f}")
    shared.finish(found, out, force, as_json)
