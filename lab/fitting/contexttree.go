package fitting

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/floats"

	"tare/method/bayes"
)

// contextOptions are those of context-tree weighting, of whatever alphabet until a column is
// read.
type contextOptions struct {
	bayes.ContextTree `yaml:",inline"`
}

// Fit implements Options.
func (o *contextOptions) Fit(ctx context.Context, p *Problem, _ Run) (Model, error) {
	if len(p.Names) != 1 {
		return nil, fmt.Errorf("fitting: %w: a context tree reads one column of symbols, the formula names %d; say --formula '. - other' or name the column alone", ErrData, len(p.Names))
	}
	m := &contextModel{Column: p.Names[0], Levels: p.Levels[0], Options: o.ContextTree, Sequences: symbolsOf(p)}
	if m.Options.Symbols = len(m.Levels); m.Options.Symbols < 2 {
		return nil, fmt.Errorf("fitting: %w: column %q has one value, there is nothing to foretell", ErrData, m.Column)
	}
	var err error
	if m.fit, err = m.Options.Fit(ctx, m.Sequences); err != nil {
		return nil, err
	}
	alone := m.Options
	alone.Depth = 0
	without, err := alone.Fit(ctx, m.Sequences)
	if err != nil {
		return nil, err
	}
	m.Bits, m.Alone = m.fit.Bits(), without.Bits()
	m.losses = [2][]float64{m.fit.Losses, without.Losses}
	leaves, posterior := m.fit.Likeliest()
	m.Contexts, m.Posterior = leaves, math.Exp(posterior)
	return m, nil
}

// symbolsOf are the levels of the only column, sequence by sequence.
func symbolsOf(p *Problem) [][]int {
	var out [][]int
	for _, rows := range sequenceRows(p) {
		var s []int
		for _, i := range rows {
			s = append(s, int(p.X.At(i, 0)))
		}
		out = append(out, s)
	}
	return out
}

// contextModel is a mixture of context trees. What it knows is the sequences it read, which
// the file holds; the trees grow from them again.
type contextModel struct {
	Column    string            `json:"column"`
	Levels    []string          `json:"levels"`
	Options   bayes.ContextTree `json:"options"`
	Sequences [][]int           `json:"sequences"`
	Bits      float64           `json:"bits"`  // a symbol, as they came
	Alone     float64           `json:"alone"` // without a past
	Contexts  []bayes.Context   `json:"contexts"`
	Posterior float64           `json:"posterior"` // of the tree with these

	fit    *bayes.Contexts
	losses [2][]float64 // with and without a past
}

// Predict implements Predictor: the probabilities of each row's symbol by those before it in
// its sequence.
func (m *contextModel) Predict(p *Problem) (*Prediction, error) {
	if m.fit == nil {
		if len(m.Levels) != m.Options.Symbols {
			return nil, fmt.Errorf("fitting: %w: %d levels for %d symbols", ErrModel, len(m.Levels), m.Options.Symbols)
		}
		var err error
		if m.fit, err = m.Options.Fit(context.Background(), m.Sequences); err != nil {
			return nil, err
		}
	}
	out := &Prediction{Classes: m.Levels, Probabilities: make([][]float64, len(p.Lines))}
	var bits float64
	for _, rows := range sequenceRows(p) {
		symbols := make([]int, len(rows))
		for t, i := range rows {
			symbols[t] = int(p.X.At(i, 0))
		}
		said, err := m.fit.Foretell(symbols)
		if err != nil {
			return nil, err
		}
		for t, i := range rows {
			out.Probabilities[i] = said[t]
			bits -= math.Log2(said[t][symbols[t]]) / float64(len(p.Lines))
		}
	}
	out.Notes = []string{fmt.Sprintf("each row by those before it: %.4g bits a symbol of what stands there", bits)}
	return out, nil
}

// mostContexts are shown, and mostSymbols of each.
const mostContexts, mostSymbols = 30, 8

// Tables implements Model.
func (m *contextModel) Tables() []Table {
	code := Table{Title: fmt.Sprintf("%s: %d symbols", m.Column, len(m.Levels)), Header: []string{"foretold by", " bits a symbol"}, Rows: [][]string{
		{fmt.Sprintf("up to %d before, all trees at once", m.Options.Depth), fmt.Sprintf("%.4f", m.Bits)},
		{"nothing before", fmt.Sprintf("%.4f", m.Alone)},
		{"equal chances", fmt.Sprintf("%.4f", math.Log2(float64(len(m.Levels))))},
	}}
	if m.Contexts == nil {
		return []Table{code}
	}
	leaves := slices.Clone(m.Contexts)
	slices.SortStableFunc(leaves, func(a, b bayes.Context) int { return cmp.Compare(floats.Sum(b.Counts), floats.Sum(a.Counts)) })
	contexts := Table{Title: fmt.Sprintf("The likeliest tree has %d contexts, and probability %.3g", len(leaves), m.Posterior), Header: []string{"after", " rows", "come, the likeliest first"}}
	for i, leaf := range leaves {
		if i == mostContexts {
			contexts.Rows = append(contexts.Rows, []string{"…", "", ""})
			break
		}
		contexts.Rows = append(contexts.Rows, []string{m.past(leaf.Past), fmt.Sprint(floats.Sum(leaf.Counts)), m.shares(leaf.Counts)})
	}
	return []Table{code, contexts}
}

func (m *contextModel) past(symbols []int) string {
	if len(symbols) == 0 {
		return "anything"
	}
	var words []string
	for _, s := range symbols {
		if s < 0 {
			words = append(words, "(start)")
		} else {
			words = append(words, m.Levels[s])
		}
	}
	return strings.Join(words, " ")
}

// shares lists a leaf's probabilities, the largest first.
func (m *contextModel) shares(counts []float64) string {
	order := make([]int, len(counts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(counts[b], counts[a]) })
	var words []string
	alpha := m.Options.Alpha
	for _, s := range order[:min(mostSymbols, len(order))] {
		p := (counts[s] + alpha) / (floats.Sum(counts) + alpha*float64(len(counts)))
		words = append(words, fmt.Sprintf("%s %.3f", m.Levels[s], p))
	}
	return strings.Join(words, ", ")
}

// Figures implements Illustrated.
func (m *contextModel) Figures() []Figure {
	f := Figure{Name: "bits", Title: "Mean bits a symbol, as they came", X: "symbols", Y: "bits", LogX: true}
	for i, name := range []string{"context trees", "nothing before"} {
		s := Series{Name: name, Dashed: i == 1}
		sum := 0.0
		for t, v := range m.losses[i] {
			sum += v / math.Ln2
			s.X, s.Y = append(s.X, float64(t+1)), append(s.Y, sum/float64(t+1))
		}
		f.Lines = append(f.Lines, s)
	}
	return []Figure{f}
}
