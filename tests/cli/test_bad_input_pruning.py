"""Whatever is wrong with what prune, audit, report and reproduce are asked."""

from cli.refusals import assert_refused, cases

PRUNE = "prune digits --out new "
QUICK = "--epochs 1 --dense-epochs 1 --rounds 1"
SIGNALS = "audit --signals target.npz "
REPRODUCE = "reproduce wemem --dataset fine.csv --out new "

# The command, and a word that its message must hold.
PRUNING = {
    "wrong column count": ("prune few-columns.csv --out new", "line 3"),
    "NaN in CSV": ("prune nan-cell.csv --out new", "line 3"),
    "NaN in NPZ": ("prune nan.npz --out new", "NaN"),
    "labels out of range": ("prune odd-label.csv --out new", "0.5"),
    "labels all the same": ("prune one-label.csv --out new", "label"),
    "empty file": ("prune empty.csv --out new", "empty"),
    "no rows": ("prune no-rows.csv --out new", "no rows"),
    "too few rows": ("prune tiny.csv --out new", "too few"),
    "images too small": ("prune images.npz --out new", "8 pixels"),
    "images for a fully connected network": ("prune larger.npz --model fc --out new", "images"),
    "truncated NPZ": ("prune truncated.npz --out new", "truncated.npz"),
    "unknown kind of file": ("prune prose.docx --out new", ".csv"),
    "missing file": ("prune missing.csv --out new", "missing.csv"),
    "missing dataset": ("prune att --out new", "privet data fetch att"),
    "unknown dataset": ("prune digit --out new", "did you mean digits"),
    "sparsity 1": (PRUNE + "--sparsity 1.0", "1.0"),
    "sparsity below 0": (PRUNE + "--sparsity -0.1", "-0.1"),
    "sparsity no number": (PRUNE + "--sparsity nan", "nan"),
    "no rounds": (PRUNE + "--rounds 0", "0.6 takes at least one round"),
    "rounds below 0": (PRUNE + "--rounds -1", "-1"),
    "unknown schedule": (PRUNE + "--schedule steep", "geometric"),
    "option the pruner lacks": (PRUNE + "--pruner-set sharp=1", "scope"),
    "option of another type for the pruner": (PRUNE + "--pruner-set scope=1", "scope"),
    "value the pruner does not take": (PRUNE + "--pruner-set scope=all", "'all'"),
    "rewinding beyond training": (PRUNE + "--dense-epochs 3 --rewind 4", "0..3"),
    "rewinding what shrinks": (PRUNE + "--pruner structural --rewind 0", "structural"),
    "unknown scores": (PRUNE + "--scores guessed", "folds"),
    "repeats without an analysis": (PRUNE + "--repeats 5", "--analyse"),
    "scores that no one needs": (PRUNE + "--scores folds", "rmr"),
    "score models that no one needs": (PRUNE + "--defense distill --score-models 7", "7"),
    "an odd number of halves": (PRUNE + "--scores subsampled --score-models 3", "even"),
    "one score model": (PRUNE + "--score-models 1", "at least 2"),
    "more folds than rows": ("prune fine.csv --defense rsw --score-models 60 --out new", "60"),
    "more teachers than rows": ("prune fine.csv --defense distill --set folds=60 --out new", "60"),
    "discriminants of images": (
        "prune larger.npz --width 4 --defense distill --set teacher=lda --out new",
        "tables",
    ),
    "one fold": (PRUNE + "--defense distill --set folds=1", "folds"),
    "a relative window above 1": (PRUNE + "--defense rsw --set relative=true", "(0, 1]"),
    "scores of no run": (PRUNE + "--scores-of folder", "privet audit"),
    "scores of a run not audited": (PRUNE + "--scores-of run", "privet audit"),
    "width of a table's network": (PRUNE + "--width 4", "width"),
    "width below 0": ("prune larger.npz --width -4 --out new", "-4"),
    "samples below 0": (PRUNE + "--samples -1", "-1"),
    "more samples than rows": (PRUNE + "--samples 2000", "1797"),
    "weights without held-out data": ("prune fine.csv --weights w.safetensors --out new", "--held"),
    "missing weights": (
        "prune fine.csv --weights no.safetensors --heldout more.csv --out new",
        "no.safetensors",
    ),
    "truncated weights": (
        "prune fine.csv --weights truncated.safetensors --heldout more.csv --out new",
        "truncated.safetensors",
    ),
    "weights of another network": (
        "prune fine.csv --weights bundle.safetensors --heldout more.csv --out new",
        "do not fit",
    ),
    "missing held-out data": ("prune fine.csv --heldout no.csv --out new", "no.csv"),
    "held-out data of another width": ("prune fine.csv --heldout nan.npz --out new", "NaN"),
    "held-out data of other columns": ("prune fine.csv --heldout swapped.csv --out new", "columns"),
    "held-out data of a strange class": ("prune fine.csv --heldout strange.csv --out new", "'2'"),
    "too few held-out rows": ("prune fine.csv --heldout two.csv --out new", "too few"),
    "a module that is not there": ("prune fine.csv --model nowhere:net --out new", "nowhere"),
    "a model of no function": ("prune fine.csv --model json:net --out new", "net"),
    "a model of no name": ("prune fine.csv --model json: --out new", "package.module:function"),
    "a model that is no network": ("prune fine.csv --model json:JSONEncoder --out new", "Module"),
    "no epochs": (PRUNE + "--epochs 0", "epochs"),
    "negative epochs": (PRUNE + "--dense-epochs -1", "-1"),
    "unknown defense": (PRUNE + "--defense hope", "swmr"),
    "unknown pruner": (PRUNE + "--pruner scissors", "magnitude"),
    "unknown model": (PRUNE + "--model oracle", "fc"),
    "option the defense lacks": (PRUNE + "--defense rsw --set wide=3", "width"),
    "option of another type": (PRUNE + "--defense rsw --set width=wide", "width"),
    "option without a value": (PRUNE + "--defense rsw --set width", "width"),
    "negative seed": (PRUNE + "--seed -1", "seed"),
    "no output folder": ("prune digits", "--out"),
    "output in no run": ("prune digits --out folder", "folder"),
    "output is a file": ("prune digits --out earlier.csv", "earlier.csv"),
    "output below a file": ("prune digits --out earlier.csv/new", "earlier.csv"),
    "run with other settings": ("prune digits --out run --sparsity 0.5", "0.6"),
    "run with another seed": ("prune digits --out run --seed 9", "seed"),
    "run of another kind": ("prune digits --out build", "protect"),
    "damaged run.json": ("prune digits --out damaged", "run.json"),
    "one canary": (PRUNE + "--canaries 1", "canaries"),
    "canaries below 0": (PRUNE + "--canaries -2", "-2"),
    "more canaries than half": (PRUNE + "--canaries 360", "718"),
    "canaries a word": (PRUNE + "--canaries many", "many"),
    "run with other canaries": (f"prune digits --out run {QUICK} --canaries 4", "canaries"),
    "no canaries in a run with some": (f"prune digits --out canaried {QUICK}", "canaries"),
}
AUDITING = {
    "unknown attack": ("audit run --attacks conf,guess", "guess"),
    "no attack": ("audit run --attacks ,", "attack"),
    "no shadow models": ("audit run --shadows 0", "shadows"),
    "no jobs": ("audit run --jobs 0", "jobs"),
    "negative seed": ("audit run --seed -1", "seed"),
    "unfinished run": ("audit unfinished --shadows 1 --jobs 1", "not finished"),
    "no run": ("audit folder", "run.json"),
    "missing run": ("audit missing", "missing"),
    "run of another kind": ("audit build", "protect"),
    "truncated weights": ("audit truncated --shadows 1 --jobs 1", "model.safetensors"),
    "nothing to audit": ("audit", "--signals"),
    "a run and signals": ("audit run --signals target.npz", "--signals"),
    "a run and references": ("audit run --reference refs.npz", "--signals"),
    "a run and an output": ("audit run --out found.json", "--out"),
    "references alone": ("audit --reference refs.npz", "--signals"),
    "a shadow model of another size": ("audit stale --shadows 1 --jobs 1", "0000.npz"),
    "a truncated shadow model": ("audit cut --shadows 1 --jobs 1", "0000.npz"),
    "run of another version": ("audit older --shadows 1 --jobs 1", "another version"),
    "attack with no build": ("protect attack good.txt --labels empty.txt --build run", "prune"),
    "attack with no attack model": (
        "protect attack good.txt --labels empty.txt --build build",
        "no attack model",
    ),
    "report on no run": ("report folder", "folder"),
    "report on an unfinished run": ("report unfinished", "no finished run"),
    "report on a damaged run": ("report damaged", "run.json"),
}
RECORDED = {
    "offline": (SIGNALS + "--offline", "--offline"),
    "not adaptive": (SIGNALS + "--non-adaptive", "--non-adaptive"),
    "missing file": ("audit --signals no.npz", "no.npz"),
    "missing references": (SIGNALS + "--reference no.npz", "no.npz"),
    "truncated": ("audit --signals truncated.npz", "truncated.npz"),
    "no NPZ": ("audit --signals good.txt", "good.txt"),
    "a folder": ("audit --signals folder", "folder"),
    "an array lacks": ("audit --signals images.npz", "images.npz"),
    "members no truth": ("audit --signals maybe.npz", "members"),
    "members all alike": ("audit --signals all-in.npz --attacks gap", "nonmember"),
    "members of other samples": ("audit --signals fewer.npz --attacks gap", "membership"),
    "labels beyond the classes": ("audit --signals beyond.npz", "labels"),
    "NaN": ("audit --signals not-finite.npz", "NaN"),
    "robustness above 1": ("audit --signals sure.npz", "robustness"),
    "sensitivity of another shape": ("audit --signals shapeless.npz", "sensitivity"),
    "references to other samples": (SIGNALS + "--reference other-refs.npz", "labels"),
    "one model's references": (SIGNALS + "--reference target.npz", "logits"),
    "attack without references": (SIGNALS + "--attacks conf", "'conf'"),
    "attack without sensitivity": (SIGNALS + "--reference refs.npz --attacks samia", "'samia'"),
    "unknown attack": (SIGNALS + "--attacks guess", "guess"),
    "output is a folder": (SIGNALS + "--attacks gap --out folder", "folder"),
    "output below a file": (SIGNALS + "--attacks gap --out earlier.csv/new.json", "earlier.csv"),
}
REPRODUCING = {
    "unknown row": (REPRODUCE + "--rows none,hope", "'hope'"),
    "no row": (REPRODUCE + "--rows ,", "row"),
    "a row twice": (REPRODUCE + "--rows none,none", "once"),
    "sparsity a word": (REPRODUCE + "--sparsity 0.5,much", "much"),
    "unknown attack": (REPRODUCE + "--attacks guess", "guess"),
    "no attack": (REPRODUCE + "--attacks ,", "attack"),
    "unknown dataset": ("reproduce wemem --dataset digit --out new", "did you mean digits"),
    "missing dataset": ("reproduce wemem --out new", "privet data fetch location"),
    "images": ("reproduce wemem --dataset images.npz --out new", "8 pixels"),
    "no seeds": (REPRODUCE + "--seeds 0", "seeds"),
    "negative seed": (REPRODUCE + "--first-seed -1", "-1"),
    "no shadow models": (REPRODUCE + "--shadows 0", "shadows"),
    "sparsity 1": (REPRODUCE + "--sparsity 1", "sparsity"),
    "output is a file": (REPRODUCE + "--out earlier.csv", "earlier.csv"),
    "unknown paper": ("reproduce winmem", "winmem"),
}


@cases(PRUNING)
def test_prune_refuses(command, word, place, capsys):
    assert_refused(command, word, place=place, capsys=capsys)


@cases(AUDITING)
def test_audit_and_report_refuse(command, word, place, capsys):
    assert_refused(command, word, place=place, capsys=capsys)


@cases(RECORDED)
def test_audit_of_recorded_signals_refuses(command, word, place, capsys):
    assert_refused(command, word, place=place, capsys=capsys)


@cases(REPRODUCING)
def test_reproduce_refuses(command, word, place, capsys):
    assert_refused(command, word, place=place, capsys=capsys)
