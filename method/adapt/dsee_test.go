package adapt

import (
	"math"
	"slices"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// Spikes on a matrix of low rank are the support, whatever else is large in it.
func TestSplitFindsTheSpikes(t *testing.T) {
	w := tensor.New(20, 30)
	for i := range 20 {
		for j := range 30 {
			w.F32()[i*30+j] = float32(3*math.Sin(float64(i))*math.Cos(float64(j)) + math.Cos(2*float64(i))*math.Sin(3*float64(j)))
		}
	}
	spikes := []int{7, 44, 211, 399, 580}
	for _, at := range spikes {
		w.F32()[at] += 2
	}
	got, err := split(w, 2, len(spikes), 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, spikes) {
		t.Errorf("support %v, want %v", got, spikes)
	}
	if largest := topEntries(magnitudes(w.F32()), len(spikes)); slices.Equal(largest, spikes) {
		t.Error("the spikes are the largest entries: the test tells nothing")
	}
}

// After phase 2 the smallest of the base's entries are gone, as many as asked for in all
// layers together, and S2 is what it was on top.
func TestDSEEPrunesEntries(t *testing.T) {
	m := newTiny(t)
	o := NewDSEE()
	o.Rank, o.Entries, o.Sparsity = 2, 9, 0.4
	a := attachAs(t, m, "dsee", o)
	var before [][]float32
	var all []float32
	for _, h := range a.Holds {
		w := slices.Clone(h.(*dsee).s.p.Value.F32())
		before, all = append(before, w), append(all, magnitudes(w)...)
	}
	stir(a)
	var s2 [][]float32
	for _, hold := range a.Holds {
		h := hold.(*dsee)
		v := make([]float32, 9)
		h.s.p.Gather(v)
		for i, w := range h.w {
			v[i] -= w
		}
		s2 = append(s2, v)
	}
	(&dseePhases{o: o, holds: holdsOf(a)}).pruneEntries()
	slices.Sort(all)
	gone, least := 0, all[int(math.Round(0.4*float64(len(all))))]
	for k, hold := range a.Holds {
		h := hold.(*dsee)
		want := slices.Clone(before[k])
		for i, w := range want {
			if max(w, -w) < least {
				want[i] = 0
				gone++
			}
		}
		for i, at := range h.s.p.Part.Index {
			want[at] += s2[k][i]
		}
		if d := distance(h.s.p.Value.F32(), want); d > 1e-6 {
			t.Errorf("layer %d: W ⊙ S1 + S2 is off by %g", k, d)
		}
	}
	if want := int(math.Round(0.4 * float64(len(all)))); gone != want {
		t.Errorf("%d entries are pruned, want %d", gone, want)
	}
}

func holdsOf(a *Adapter) (hs []*dsee) {
	for _, h := range a.Holds {
		hs = append(hs, h.(*dsee))
	}
	return hs
}

// A pruned run is saved, opens over the whole base, and gives the same logits.
func TestDSEESavedAfterPruning(t *testing.T) {
	for _, prune := range []string{"entries", "groups", "none"} {
		m := newTiny(t)
		o := NewDSEE()
		o.Rank, o.Entries, o.Prune, o.Lambda = 2, 9, prune, 1e-2
		a := attachAs(t, m, "dsee", o)
		tuneTiny(t, m, a, 12, 1e-2)
		fresh := reopened(t, a)
		if !slices.Equal(logits(fresh), logits(m)) {
			t.Errorf("%s: the saved adapter gives other logits", prune)
		}
	}
}

// Of 2 groups of heads and 24 channels a block keeps 1 and 14, those whose gates are
// largest; the smaller model equals the gated one.
func TestDSEERemovesGroups(t *testing.T) {
	m := newTiny(t)
	plain := modelEntries(m)
	o := NewDSEE()
	o.Rank, o.Entries, o.Prune, o.Lambda, o.Heads = 2, 9, "groups", 1e-2, 0.5
	a := attachAs(t, m, "dsee", o)
	tuneTiny(t, m, a, 12, 1e-2)
	for i, k := range o.Keep(a) {
		if count(k.Heads) != 1 || count(k.Channels) != 14 {
			t.Errorf("block %d keeps %d groups of heads and %d channels", i, count(k.Heads), count(k.Channels))
		}
	}
	moved := false
	for _, g := range o.removal.gates {
		for _, c := range g.c.Value.F32() {
			moved = moved || c != 0 && c != 1
		}
		if g.c.Trains() {
			t.Errorf("%s still trains", g.c.Name)
		}
	}
	if !moved {
		t.Error("no gate has learned")
	}
	checkShrunk(t, m, a, o.removal, plain)
	if c := m.Config; c.Heads != 2 || c.KVHeads != 1 || c.IntermediateSize != 14 || c.Uneven() {
		t.Errorf("the configuration says %d heads, %d, %d channels", c.Heads, c.KVHeads, c.IntermediateSize)
	}
}

// The penalty's gradient is λ times the sign of each factor.
func TestGatePenalty(t *testing.T) {
	m := newTiny(t)
	o := NewDSEE()
	o.Rank, o.Prune, o.Lambda = 2, "groups", 0.3
	a := attachAs(t, m, "dsee", o)
	p := o.Hooks(a, Setup{Steps: 10})[0].(*dseePhases)
	o.removal.gates[0].c.Value.F32()[1] = -0.5
	tp := grad.NewTape(nil)
	if err := tp.Backward(p.Penalty(nil, tp), func(p *grad.Param, g *tensor.Tensor) error {
		for i, v := range g.F32() {
			if want := float32(math.Copysign(0.3, float64(p.Value.F32()[i]))); v != want {
				t.Errorf("%s[%d]: %g, want %g", p.Name, i, v, want)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// Cuts reach the sparsity asked for, and what is zero stays so.
func TestMagnitudeReachesTheSparsity(t *testing.T) {
	for _, rounds := range []int{1, 4} {
		m := newTiny(t)
		o := NewMagnitude()
		o.Sparsity, o.Rounds = 0.7, rounds
		a := attachAs(t, m, "magnitude", o)
		first := lossOf(m)
		tuneTiny(t, m, a, 20, 1e-2)
		if left := o.Figures(a)["of the weights' entries left"]; math.Abs(left-0.3) > 1e-3 {
			t.Errorf("%d rounds: %g of the entries are left", rounds, left)
		}
		if last := lossOf(m); last > first {
			t.Errorf("%d rounds: loss %g before, %g after", rounds, first, last)
		}
	}
}
