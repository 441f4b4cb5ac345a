package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	"gonum.org/v1/gonum/mat"

	"tare/method/stats"
	"tare/method/stats/prognosis"
)

// arphmm is the experiment of the autoregressive partially hidden Markov model (Juesas,
// Ramasso, Drujont and Placet 2021): on engines that degrade, what is known of the states
// beforehand shall make its predictions of remaining lives better than the same model's
// without that knowledge, the model's without autoregression, and those from similar
// histories. What is known is loose: the states are stages of wear in their order, the
// first tenth of a life is the first of them and the last tenth the last, unless by an
// exception that is a twentieth as plausible.
//
// The engines are simulated (prognosis.Simulator, six regimes and two faults), as the
// files of C-MAPSS cannot be had everywhere; where TARE_CMAPSS names a folder with
// FD001's, the same figures on these stand among the further ones. All models predict by
// drawing futures of one and the same indicator of health.
func arphmm() Experiment {
	return Experiment{
		Slug:   "arphmm",
		Claim:  "Prior plausibility of the hidden states makes an autoregressive hidden Markov model predict the remaining lives of simulated engines better.",
		Figure: Figure{"error of the remaining life", "cycles", Lower},
		Arms: []Arm{
			{"arphmm", Method, lives{order: 2, knows: true}.run},
			{"arhmm, nothing known", Baseline, lives{order: 2}.run},
			{"partially hidden, order 0", Baseline, lives{knows: true}.run},
			{"similar histories", Baseline, lives{similar: true}.run},
		},
		Seeds: 20, QuickSeeds: 5,
		Rule: All(Beats("arphmm", "arhmm, nothing known"), Beats("arphmm", "partially hidden, order 0"), Beats("arphmm", "similar histories")),
	}
}

// stagesOfWear is the number of hidden states.
const stagesOfWear = 4

// lives is one way to predict remaining lives.
type lives struct {
	order   int
	knows   bool
	similar bool
}

func (l lives) run(ctx context.Context, e Env, seed uint64) (Measurement, error) {
	n := e.Pick(80, 24)
	failed, stopped, _, err := prognosis.Simulator{Regimes: 6, Faults: 2, Seed: seed}.Fleet(n, n)
	if err != nil {
		return Measurement{}, err
	}
	e.Step(0, 1, "")
	m := Measurement{Extra: map[string]float64{}}
	figures, err := l.measure(ctx, failed, stopped, seed)
	if err != nil {
		return m, err
	}
	m.Value = figures["error"]
	delete(figures, "error")
	for name, v := range figures {
		m.Extra[name] = v
	}
	folder := os.Getenv("TARE_CMAPSS")
	if folder == "" || e.Quick {
		return m, nil
	}
	failed, stopped, err = prognosis.ReadCMAPSS(folder, "FD001")
	if err != nil {
		return m, fmt.Errorf("TARE_CMAPSS: %w", err)
	}
	figures, err = l.measure(ctx, failed, stopped, seed)
	for name, v := range figures {
		m.Extra["C-MAPSS FD001: "+name] = v
	}
	return m, err
}

// measure learns from the engines that failed and predicts for those that were stopped.
func (l lives) measure(ctx context.Context, failed, stopped []prognosis.Unit, seed uint64) (map[string]float64, error) {
	var ind prognosis.Indicator
	if err := ind.Fit(failed); err != nil {
		return nil, err
	}
	var library [][]float64
	for i := range failed {
		library = append(library, ind.Of(&failed[i]))
	}
	predict, err := l.learn(ctx, library, seed)
	if err != nil {
		return nil, err
	}
	var all []prognosis.Prediction
	var predicted, truth []float64
	for i := range stopped {
		p, err := predict(ind.Of(&stopped[i]))
		if err != nil {
			return nil, fmt.Errorf("unit %d: %w", stopped[i].ID, err)
		}
		all, predicted, truth = append(all, p), append(predicted, p.Life), append(truth, float64(stopped[i].Left))
	}
	return map[string]float64{
		"error":                            prognosis.RMSE(predicted, truth),
		"score of an engine":               prognosis.Score(predicted, truth) / float64(len(truth)),
		"within 13 early and 10 late (%)":  100 * prognosis.Accuracy(predicted, truth),
		"lives within their intervals (%)": 100 * prognosis.Coverage(all, truth),
	}, nil
}

// learn returns what predicts a life from an indicator.
func (l lives) learn(ctx context.Context, library [][]float64, seed uint64) (func([]float64) (prognosis.Prediction, error), error) {
	if l.similar {
		var s prognosis.Similar
		for _, h := range library {
			s.Library = append(s.Library, mat.NewDense(len(h), 1, h))
		}
		return func(h []float64) (prognosis.Prediction, error) { return s.Predict(mat.NewDense(len(h), 1, h)) }, nil
	}
	var sequences []stats.Sequence
	for _, h := range library {
		s := stats.Sequence{Y: mat.NewDense(len(h), 1, h)}
		if l.knows {
			var err error
			if s.Plausibility, err = wornBy(len(h)); err != nil {
				return nil, err
			}
		}
		sequences = append(sequences, s)
	}
	o := stats.ARPHMM{States: stagesOfWear, Order: l.order, LeftRight: true, Ridge: 1e-6, Tol: 1e-6, Seed: seed}
	m, err := o.Fit(ctx, sequences)
	var stopped *stats.StoppedError
	if err != nil && !errors.As(err, &stopped) {
		return nil, err
	}
	s := prognosis.Simulated{Model: m, Threshold: prognosis.Threshold(library), Seed: seed}
	return func(h []float64) (prognosis.Prediction, error) { return s.Predict(ctx, h) }, nil
}

// wornBy is what is known of a life of n cycles.
func wornBy(n int) (*mat.Dense, error) {
	omega, err := stats.Degrading(n, stagesOfWear, 1.0/stagesOfWear)
	if err != nil {
		return nil, err
	}
	tenth := int(math.Ceil(float64(n) / 10))
	sure, err := stats.Plausible(n, stagesOfWear, []stats.Segment{
		{From: 0, To: tenth, State: 0, Other: 0.05}, {From: n - tenth, To: n, State: stagesOfWear - 1, Other: 0.05},
	})
	if err != nil {
		return nil, err
	}
	for t := range n {
		if t < tenth || t >= n-tenth {
			omega.SetRow(t, sure.RawRowView(t))
		}
	}
	return omega, nil
}
