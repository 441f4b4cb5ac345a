package fitting

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"gonum.org/v1/gonum/stat"
)

// Bootstrap is what resamples of the rows say of the coefficients: the ends of the
// interval that holds Level of them. Failed counts resamples that could not be fitted, and
// are not in it.
type Bootstrap struct {
	Draws        int           `json:"draws"`
	Failed       int           `json:"failed"`
	Level        float64       `json:"level"`
	Coefficients []Coefficient `json:"coefficients"`
}

// bootstrap draws rows with replacement, within each class where the response has
// classes and whole sequences where there are some, and refits at the settings chosen.
func bootstrap(ctx context.Context, m Model, p *Problem, r Recipe, run Run) (*Bootstrap, error) {
	refitter, ok := m.(Refitter)
	if !ok {
		return nil, fmt.Errorf("fitting: %w: this method has no bootstrap; leave out --bootstrap", ErrFormula)
	}
	first := refitter.Coefficients()
	draws := make([][]float64, r.Bootstrap)
	errs := make([]error, r.Bootstrap)
	next := make(chan int)
	var wait sync.WaitGroup
	var lock sync.Mutex
	done := 0
	for range min(r.Bootstrap, runtime.GOMAXPROCS(0)) {
		wait.Go(func() {
			for k := range next {
				if ctx.Err() != nil {
					continue
				}
				draws[k], errs[k] = draw(ctx, refitter, p, run.Seed, k, len(first))
				lock.Lock()
				done++
				run.Progress(done, r.Bootstrap, "resamples")
				lock.Unlock()
			}
		})
	}
	for k := range r.Bootstrap {
		next <- k
	}
	close(next)
	wait.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("fitting: stopped after %d of %d resamples: %w", done, r.Bootstrap, err)
	}
	b := &Bootstrap{Draws: r.Bootstrap, Level: r.Level, Coefficients: slices.Clone(first)}
	values := make([][]float64, len(first))
	for _, d := range draws {
		if d == nil {
			b.Failed++
			continue
		}
		for i, v := range d {
			values[i] = append(values[i], v)
		}
	}
	if 2*b.Failed > b.Draws {
		return nil, fmt.Errorf("fitting: %w: %d of %d resamples could not be fitted: %w", ErrData, b.Failed, b.Draws, errors.Join(firstOf(errs)))
	}
	for i, v := range values {
		slices.Sort(v)
		low := stat.Quantile((1-r.Level)/2, stat.LinInterp, v, nil)
		high := stat.Quantile((1+r.Level)/2, stat.LinInterp, v, nil)
		b.Coefficients[i].Low, b.Coefficients[i].High = &low, &high
	}
	return b, nil
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// draw is one resample's coefficients.
func draw(ctx context.Context, m Refitter, p *Problem, seed uint64, k, want int) ([]float64, error) {
	rng := rand.New(rand.NewPCG(seed, 0x626f6f74<<32+uint64(k)))
	q := p.Rows(resample(p, rng))
	if p.Group != nil {
		q.number(p)
	}
	again, err := m.Refit(ctx, q)
	if err != nil {
		return nil, named(err, q)
	}
	refitted, ok := again.(Refitter)
	if !ok {
		return nil, errors.New("fitting: a refit has no coefficients")
	}
	c := refitted.Coefficients()
	if len(c) != want {
		return nil, fmt.Errorf("fitting: a refit has %d coefficients, the fit %d", len(c), want)
	}
	out := make([]float64, want)
	for i := range c {
		out[i] = c[i].Value
	}
	return out, nil
}

// resample draws as many rows, or sequences, as there are.
func resample(p *Problem, rng *rand.Rand) []int {
	parts := map[int][]int{}
	of := func(i int) int {
		switch {
		case p.Group != nil:
			return p.Group[i]
		case p.Classes != nil:
			return int(p.Y[i])
		}
		return 0
	}
	most := 0
	for i := range p.Lines {
		parts[of(i)] = append(parts[of(i)], i)
		most = max(most, of(i))
	}
	var rows []int
	for k := range most + 1 {
		if p.Group != nil {
			rows = append(rows, parts[rng.IntN(most+1)]...)
			continue
		}
		for range parts[k] {
			rows = append(rows, parts[k][rng.IntN(len(parts[k]))])
		}
	}
	return rows
}

// number tells sequences that were drawn twice apart: a new one begins wherever the time
// of p falls back or another sequence follows.
func (p *Problem) number(from *Problem) {
	place := map[int]int{} // line to row of the source
	for i, l := range from.Lines {
		place[l] = i
	}
	var names []string
	last := -1
	for i, l := range p.Lines {
		at := place[l]
		if i == 0 || at != last+1 || from.Group[at] != from.Group[last] {
			names = append(names, from.Groups[from.Group[at]])
		}
		last = at
		p.Group[i] = len(names) - 1
	}
	p.Groups = names
}
