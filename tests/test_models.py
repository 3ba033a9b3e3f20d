"Models: the same contract for four of them, an ordinal model that others agree with, fusion that peeks at nothing, temperatures that never hurt."
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import check_grad
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from mmrec.core import MmrecError
from mmrec.rating.baselines import Tuned
from mmrec.rating.ensembles import EarlyFusion, LateFusion, StackedFusion, fit_temperature, fused, mean_vote, model, with_temperature
from mmrec.rating.ordinal import OrdinalClassifier, interval_proba, ordinal_loss


def ordered(n=800, d=4, K=5, seed=0):
    "Rows whose class is decided by one direction and evenly spread cuts."
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)).astype(np.float32)
    eta = X @ rng.normal(size=d) + rng.logistic(size=n)
    return X, np.searchsorted(np.quantile(eta, np.linspace(0, 1, K + 1)[1:-1]), eta)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), K=st.integers(2, 9), d=st.integers(1, 6), C=st.floats(.01, 100))
def test_the_gradient_is_that_of_the_loss(seed, K, d, C):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(30, d)), rng.integers(0, K, 30)
    args = (X, y, rng.random(30) + .1, C)
    assert check_grad(lambda p: ordinal_loss(p, *args)[0], lambda p: ordinal_loss(p, *args)[1], rng.normal(size=d + K - 1)/2) < 1e-4


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), K=st.integers(2, 11))
def test_interval_probabilities_are_a_distribution_that_rises_with_the_score(seed, K):
    rng = np.random.default_rng(seed)
    score = np.sort(rng.normal(scale=20, size=12))
    p = interval_proba(score, np.sort(rng.normal(scale=5, size=K - 1)))
    assert (p >= 0).all() and np.allclose(p.sum(1), 1)
    assert (np.diff(p @ np.arange(K)) >= -1e-9).all()


def test_two_ordered_classes_are_logistic_regression():
    X, y = ordered(K=2)
    ours, theirs = OrdinalClassifier(C=.5, max_iter=1000).fit(X, y), LogisticRegression(C=.5, tol=1e-8).fit(X, y)
    assert np.allclose(ours.coef_, theirs.coef_[0], atol=2e-3) and np.allclose(-ours.cuts_, theirs.intercept_, atol=2e-3)


def test_statsmodels_agrees():
    from statsmodels.miscmodels.ordinal_model import OrderedModel
    X, y = ordered(K=4)
    ours = OrdinalClassifier(C=1e6, max_iter=1000).fit(X, y)
    theirs = OrderedModel(y, X.astype(float), distr="logit").fit(method="bfgs", disp=False)
    assert np.allclose(ours.predict_proba(X), theirs.predict(), atol=2e-3)


def test_ridge_shrinks_and_balanced_weights_lift_rare_classes():
    X, y = ordered()
    keep = (y == 4) | (np.random.default_rng(1).random(len(y)) < .3)
    X, y = X[keep], y[keep]
    norms = [np.linalg.norm(OrdinalClassifier(C=C).fit(X, y).coef_) for C in (1e-3, 1e-1, 10)]
    assert norms == sorted(norms)
    plain, balanced = OrdinalClassifier().fit(X, y), OrdinalClassifier(class_weight="balanced").fit(X, y)
    assert (balanced.predict(X) < 4).mean() > (plain.predict(X) < 4).mean()


def test_the_course_projects_width_and_half_stars():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2816)).astype(np.float32)
    y = rng.choice(np.arange(.5, 5.5, .5), 600)
    m = OrdinalClassifier(C=1e-3).fit(X, y)
    assert m.predict_proba(X).shape == (600, 10) and set(m.predict(X)) <= set(y) and np.isfinite(m.coef_).all()


@pytest.mark.parametrize("name", ["logistic", "boosting", "ordinal"])
def test_the_contract_of_the_network_holds_for_its_rivals(name):
    X, y = ordered(500, K=3)
    m = model(name).fit(X[:300], y[:300] + 3, validation_data=(X[300:400], y[300:400] + 3))
    p = m.predict_proba(X[400:])
    assert p.shape == (100, 3) and np.allclose(p.sum(1), 1, atol=1e-5) and set(m.predict(X)) <= {3, 4, 5}
    assert m.score(X[400:], y[400:] + 3) > .4
    order = np.random.default_rng(0).permutation(100)
    assert np.allclose(m.predict_proba(X[400:][order]), p[order], atol=1e-6)
    again = clone(m).fit(X[:300], y[:300] + 3, validation_data=(X[300:400], y[300:400] + 3))
    assert np.array_equal(again.predict_proba(X), m.predict_proba(X))
    with pytest.raises(MmrecError, match="pass the vectors through Fusion"): model(name).fit(np.where(X > 1, np.nan, X), y)
    with pytest.raises(MmrecError, match="nothing to learn"): model(name).fit(X, np.ones(500))


def test_only_validation_rows_choose():
    X, y = ordered(600)
    valid = X[400:500], y[400:500]
    m = Tuned(LogisticRegression(), dict(C=[1e-4, 1.])).fit(X[:400], y[:400], valid)
    p = [LogisticRegression(C=C).fit(X[:400], y[:400]).predict_proba(valid[0])[np.arange(100), valid[1]] for C in (1e-4, 1.)]
    assert np.allclose(m.losses_, [-np.log(q).mean() for q in p], atol=1e-4)


def test_a_class_that_only_the_validation_part_has_is_named_with_probability_zero():
    X, y = ordered(200, K=3)
    y[-1] = 9
    m = model("ordinal").fit(X, y, groups=np.arange(200)//4)
    assert m.predict_proba(X).shape == (200, 4)


def blocks_with_gaps(n=400, seed=0):
    rng = np.random.default_rng(seed)
    X, y = ordered(n, 6, 3, seed)
    X = dict(text=X[:, :3].copy(), image=X[:, 3:].copy())
    X["image"][rng.random(n) < .3] = np.nan; X["text"][rng.random(n) < .1] = np.nan
    return X, y


@pytest.mark.parametrize("how", ["early", "late", "stacked"])
def test_fusion_answers_every_row_and_treats_each_alone(how):
    X, y = blocks_with_gaps()
    m = fused(how, Tuned(LogisticRegression())).fit({k: b[:300] for k, b in X.items()}, y[:300], groups=np.arange(300)//3)
    p = m.predict_proba(X)
    assert np.isfinite(p).all() and np.allclose(p.sum(1), 1, atol=1e-5) and m.score(X, y) > .45
    order = np.random.default_rng(1).permutation(len(y))
    assert np.allclose(m.predict_proba({k: b[order] for k, b in X.items()}), p[order], atol=1e-6)
    assert clone(m).get_params()["model__seed"] == 0


def test_a_missing_modality_has_no_vote():
    X, y = blocks_with_gaps()
    m = LateFusion(Tuned(LogisticRegression())).fit(X, y)
    p, text = m.predict_proba(X), m.voters_["text"]
    only = np.isnan(X["image"]).any(1) & ~np.isnan(X["text"]).any(1)
    assert np.allclose(p[only], text.predict_proba({"text": X["text"][only]}))
    nothing = np.isnan(X["image"]).any(1) & np.isnan(X["text"]).any(1)
    assert np.allclose(p[nothing], np.bincount(y)/len(y))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), M=st.integers(1, 4))
def test_the_mean_vote_lies_between_the_votes(seed, M):
    rng = np.random.default_rng(seed)
    votes = rng.dirichlet(np.ones(3), (M, 8)); votes[rng.random((M, 8)) < .4] = np.nan
    out = mean_vote(votes, [.2, .3, .5])
    assert np.allclose(out.sum(1), 1)
    seen = ~np.isnan(votes).all((0, 2))
    assert (out[seen] <= np.nanmax(votes[:, seen], 0) + 1e-9).all() and (out[seen] >= np.nanmin(votes[:, seen], 0) - 1e-9).all()


def test_stacking_peeks_at_no_row_of_its_own_product():
    "A model that learns groups by heart is right on all training rows and, out of fold, on none."
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 5)
    y = rng.integers(0, 2, 60)[group]
    X = dict(text=np.eye(60, dtype=np.float32)[group]*10)
    m = StackedFusion(Tuned(LogisticRegression(C=1e3)))
    m.fit(X, y, (X, y), groups=group)
    votes = m.out_of_fold(X, y, (X, y), group)[0]
    assert m.voters_["text"].score(X, y) == 1 and (votes.argmax(1) == y).mean() < .7
    assert not np.isnan(votes).any()


def test_a_modality_without_rows_and_unknown_names_are_refused():
    X, y = blocks_with_gaps()
    with pytest.raises(MmrecError, match="leave image out"): LateFusion(Tuned(LogisticRegression())).fit({**X, "image": X["image"]*np.nan}, y)
    with pytest.raises(MmrecError, match="no vectors for sound"): EarlyFusion(Tuned(LogisticRegression()), ["sound"]).fit(X, y)
    with pytest.raises(MmrecError, match="use early, late or stacked"): fused("never", None)
    with pytest.raises(MmrecError, match="use one of network"): model("oracle")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), sharp=st.floats(.1, 8), K=st.integers(2, 6))
def test_a_temperature_never_hurts_where_it_was_fitted_and_changes_no_prediction(seed, sharp, K):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(80, K))
    y = (logits + rng.gumbel(size=(80, K))).argmax(1)
    p = np.exp(sharp*logits); p /= p.sum(1, keepdims=True)
    T = fit_temperature(p, y)
    cooled, loss = with_temperature(p, T), lambda q: -np.log(np.clip(q[np.arange(80), y], 1e-12, 1)).mean()
    assert loss(cooled) <= loss(p) + 1e-9 and np.allclose(cooled.sum(1), 1)
    assert (cooled[np.arange(80), p.argmax(1)] >= cooled.max(1) - 1e-12).all()


def test_the_temperature_finds_the_factor_by_which_logits_were_stretched():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3))
    y = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    p = np.exp(3*logits); p /= p.sum(1, keepdims=True)
    assert abs(fit_temperature(p, y) - 3) < .15


@pytest.mark.parametrize("said", [.9, .99, .999, .99999])
def test_a_model_that_is_far_too_sure_is_cooled_to_its_true_odds(said):
    "Nine of ten right: odds of said/(1 - said) should be 9."
    assert fit_temperature([[said, 1 - said]]*10, [0]*9 + [1]) == pytest.approx(np.log(said/(1 - said))/np.log(9), rel=1e-3)


def test_a_network_of_anybody_is_read_or_refused(tmp_path):
    "Mutated archives, settings and weights; a configuration with code in it is not looked at."
    import json, random, zipfile
    from mmrec.rating.network import RatingClassifier, load_classifier
    rng, X = random.Random(0), np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    fitted = RatingClassifier(hidden=(4, 3), dropout=(.1, .1), epochs=1).fit(X, np.arange(60) % 3)
    fitted.save(tmp_path/"m.keras")
    with zipfile.ZipFile(tmp_path/"m.keras") as z: members = {i.filename: z.read(i) for i in z.infolist()}
    about, odd = json.loads(members["mmrec.json"]), tmp_path/"odd.keras"
    def write(how=zipfile.ZIP_STORED, **new):
        with zipfile.ZipFile(odd, "w", how) as z:
            for name, data in (members | {k.replace("_", "."): v for k, v in new.items()}).items(): z.writestr(name, data)
    def read():
        try: return load_classifier(odd).predict_proba(X)
        except MmrecError as e: assert "odd.keras: not a model" in str(e) and len(str(e).splitlines()) == 1
    for _ in range(20):
        data = bytearray((tmp_path/"m.keras").read_bytes())
        data[rng.randrange(len(data))] ^= 255
        odd.write_bytes(data[:rng.randrange(len(data))] if rng.random() < .5 else data); read()
    for change in (dict(n_features=10**8), dict(n_features=-1), dict(classes=[1]), dict(classes=[[1], [2]]), dict(params=None), dict(history=[]), dict(best_epoch="x"),
                   dict(params=about["params"] | dict(hidden=[10**6, 10**6])), dict(params=about["params"] | dict(hidden="ab")), dict(params=about["params"] | dict(more=1))):
        write(mmrec_json=json.dumps(about | change)); assert read() is None, change
    write(mmrec_json="["*100_000); assert read() is None
    write(how=zipfile.ZIP_DEFLATED); assert read() is None
    code = dict(class_name="Lambda", module="keras.layers", config=dict(function="os.system"))
    write(config_json=json.dumps(dict(class_name="Sequential", config=dict(layers=[code])))); assert np.array_equal(read(), fitted.predict_proba(X))
