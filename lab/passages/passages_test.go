package passages

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/floats"
)

var small = Sizes{Lower: 40, Upper: 30, Valid: 10, Test: 20}

func draw(t *testing.T, s Sizes, seed uint64) *Corpus {
	t.Helper()
	c, err := Draw(s, seed)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDraw(t *testing.T) {
	c := draw(t, small, 1)
	seen := map[string]int{}
	for name, set := range map[string]struct {
		Set
		each int
	}{"lower": {c.Lower, 40}, "upper": {c.Upper, 30}, "valid": {c.Valid, 10}, "test": {c.Test, 20}} {
		count := [Classes]int{}
		for i, l := range set.Labels {
			count[l]++
			seen[fmt.Sprint(set.Tokens[i*Tokens:(i+1)*Tokens])]++
		}
		if want := [Classes]int{set.each, set.each, set.each, set.each}; count != want || len(set.Tokens) != Tokens*len(set.Labels) {
			t.Errorf("%s: %d tokens, classes %v, want %v", name, len(set.Tokens), count, want)
		}
		if slices.Min(set.Tokens) < 0 || int(slices.Max(set.Tokens)) >= c.Vocab {
			t.Errorf("%s: tokens outside of the vocabulary", name)
		}
	}
	if len(seen) != 400 {
		t.Errorf("%d different passages of 400", len(seen))
	}
	if again := draw(t, small, 1); !slices.Equal(c.Test.Tokens, again.Test.Tokens) {
		t.Error("a seed gives different passages")
	}
	if other := draw(t, small, 2); slices.Equal(c.Test.Tokens, other.Test.Tokens) {
		t.Error("two seeds give the same passages")
	}
	for _, bad := range []Sizes{{}, {Lower: 1, Upper: 1, Valid: 1, Test: 1_000_000}} {
		if _, err := Draw(bad, 1); !errors.Is(err, ErrSizes) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// The products of every problem are what the lower gradient differs by, on the same sample.
func TestProducts(t *testing.T) {
	c := draw(t, small, 1)
	for name, open := range map[string]func() (*Problem, error){
		"representation": func() (*Problem, error) { return Representation(c, 1) },
		"cleaning":       func() (*Problem, error) { return Cleaning(c, 0.3, 1) },
		"regularisation": func() (*Problem, error) { return Regularisation(c) },
	} {
		p, err := open()
		if err != nil {
			t.Fatal(err)
		}
		x, y := p.Values()
		rng := rand.New(rand.NewPCG(5, 5))
		direction := func(n int) []float64 {
			v := make([]float64, n)
			for i := range v {
				v[i] = rng.NormFloat64()
			}
			floats.Scale(1/floats.Norm(v, 2), v)
			return v
		}
		if name == "regularisation" { // its weights start at 0, where the ridges do not matter
			y = direction(len(y))
		}
		u, v := direction(len(x)), direction(len(y))
		hv, jv := make([]float64, len(y)), make([]float64, len(x))
		if err := p.Product(rand.New(rand.NewPCG(7, 7)), x, y, v, hv, jv); err != nil {
			t.Fatal(err)
		}
		const step = 0.02
		slope := func(ux, vy float64) float64 { // of ⟨∇ᵧg, v⟩
			var at [2]float64
			for i, s := range []float64{step, -step} {
				g := make([]float64, len(y))
				movedX, movedY := slices.Clone(x), slices.Clone(y)
				floats.AddScaled(movedX, s*ux, u)
				floats.AddScaled(movedY, s*vy, v)
				if err := p.Lower(rand.New(rand.NewPCG(7, 7)), movedX, movedY, g); err != nil {
					t.Fatal(err)
				}
				at[i] = floats.Dot(g, v)
			}
			return (at[0] - at[1]) / (2 * step)
		}
		for what, pair := range map[string][2]float64{
			"vᵀ∇²ᵧᵧg v": {floats.Dot(v, hv), slope(0, 1)}, "uᵀ∇²ₓᵧg v": {floats.Dot(u, jv), slope(1, 0)},
		} {
			if math.Abs(pair[0]-pair[1]) > 0.02*math.Abs(pair[1])+1e-6 {
				t.Errorf("%s: %s = %g, differences give %g", name, what, pair[0], pair[1])
			}
		}
	}
}

func TestWrongShare(t *testing.T) {
	if _, err := Cleaning(draw(t, small, 1), math.NaN(), 1); err == nil {
		t.Error("a share of NaN wrong labels is let pass")
	}
}

// Accuracy asks for the right class: the classifier that always says 2 has a quarter right.
func TestAccuracy(t *testing.T) {
	c := draw(t, small, 1)
	p, err := Regularisation(c)
	if err != nil {
		t.Fatal(err)
	}
	x, y := p.Values()
	for i := 2 * c.Vocab; i < 3*c.Vocab; i++ {
		y[i] = 1
	}
	if a := p.Accuracy(&c.Test, x, y); a != 0.25 {
		t.Errorf("accuracy %g", a)
	}
}
