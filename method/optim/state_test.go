package optim

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/train"
)

// copied is a state as a file would give it back.
func copied(st train.State) (out train.State) {
	for _, n := range st {
		out = append(out, train.Named{Name: n.Name, Tensor: n.Tensor.Clone()})
	}
	return out
}

func flat(st train.State) string {
	var s strings.Builder
	for _, n := range st {
		fmt.Fprintf(&s, "%s %s %v %x\n", n.Name, n.Tensor.DType(), n.Tensor.Shape(), n.Tensor.Bytes())
	}
	return s.String()
}

// Every optimizer goes on from a saved state to the same bits, and says what state it
// holds in the ledger.
func TestStateGoesOnToTheSameBits(t *testing.T) {
	for _, m := range Methods() {
		for _, momentum := range []float64{0, 0.9} {
			for part := range parts {
				what := fmt.Sprintf("%s, momentum %g, %s", m.Name, momentum, part)
				o := Options{Momentum: momentum, Decay: 0.1}
				whole, norm := newParam(parts[part], 13, 37), newParam(grad.Whole, 37)
				norm.Name = "norm.weight" // a second parameter, whose steps lag behind
				ledger := &grad.Ledger{}
				first := m.New(o, ledger)
				take(t, first, whole, 1, 20, falling)
				take(t, first, norm, 1, 5, falling)
				entries := int64(whole.PartLen() + norm.PartLen())
				checkCharge(t, what, m.Name, momentum, ledger, entries)

				state := copied(first.State())
				rest, restNorm := newParam(parts[part], 13, 37), newParam(grad.Whole, 37)
				copy(rest.Value.F32(), whole.Value.F32())
				copy(restNorm.Value.F32(), norm.Value.F32())
				restNorm.Name = norm.Name
				otherLedger := &grad.Ledger{}
				second := m.New(o, otherLedger)
				take(t, second, newParam(grad.Whole, 3), 1, 2, falling) // state that the restored one replaces
				if err := second.Restore(state); err != nil {
					t.Fatal(err)
				}
				checkCharge(t, what+", restored", m.Name, momentum, otherLedger, entries)
				if flat(second.State()) != flat(first.State()) {
					t.Errorf("%s: the restored state is another", what)
				}
				before := flat(state)
				for _, run := range []struct {
					o    train.Optimizer
					w, n *grad.Param
				}{{first, whole, norm}, {second, rest, restNorm}} {
					take(t, run.o, run.w, 21, 50, falling)
					take(t, run.o, run.n, 6, 9, falling)
				}
				if !slices.Equal(rest.Value.Bytes(), whole.Value.Bytes()) || !slices.Equal(restNorm.Value.Bytes(), norm.Value.Bytes()) {
					t.Errorf("%s: other values after going on from the saved state", what)
				}
				if flat(state) != before {
					t.Errorf("%s: going on changed the state that was read", what)
				}
			}
		}
	}
}

// checkCharge wants two f32 values an entry of AdamW and one of SGD with momentum.
func checkCharge(t *testing.T, what, method string, momentum float64, l *grad.Ledger, entries int64) {
	t.Helper()
	want := 2 * 4 * entries
	if method == "sgd" {
		want = 4 * entries
		if momentum == 0 {
			want = 0
		}
	}
	if got := l.Now(grad.Optimizer); got != want {
		t.Errorf("%s: %d bytes of optimizer state for %d entries, want %d", what, got, entries, want)
	}
}

func TestRestoreRefusesAnotherOptimizersState(t *testing.T) {
	p := newParam(grad.Whole, 13, 37)
	adam, sgd := NewAdamW(0, nil), &SGD{Momentum: 0.9}
	take(t, adam, p, 1, 2, falling)
	take(t, sgd, p, 1, 2, falling)
	for what, err := range map[string]error{
		"adamw of sgd": NewAdamW(0, nil).Restore(sgd.State()),
		"sgd of adamw": (&SGD{Momentum: 0.9}).Restore(adam.State()),
		"half":         NewAdamW(0, nil).Restore(adam.State()[:2]),
	} {
		if err == nil || !strings.Contains(err.Error(), "layer.weight") {
			t.Errorf("%s: %v, want an error that names the parameter", what, err)
		}
	}
	if err := NewAdamW(0, nil).Restore(train.State{{Name: "nobody", Tensor: tensor.New(1)}}); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("state of no parameter: %v", err)
	}
}

// A state whose tensors are of another type or shape is refused and not read.
func TestRestoreRefusesDamagedState(t *testing.T) {
	p := newParam(grad.Whole, 13, 37)
	adam, sgd := NewAdamW(0, nil), &SGD{Momentum: 0.9}
	take(t, adam, p, 1, 2, falling)
	take(t, sgd, p, 1, 2, falling)
	damage := map[string]*tensor.Tensor{
		"another type": tensor.NewOf(tensor.BF16, 13, 37), "whole numbers": tensor.NewOf(tensor.I64, 13, 37), "empty": tensor.New(0), "shorter": tensor.New(13, 36),
	}
	for what, d := range damage {
		for _, c := range []struct {
			o     train.Optimizer
			state train.State
			first int
		}{{NewAdamW(0, nil), adam.State(), 0}, {&SGD{Momentum: 0.9}, sgd.State(), 0}} {
			for i := range c.state {
				state := slices.Clone(c.state)
				state[i].Tensor = d
				err := c.o.Restore(state)
				if err == nil { // then the step must see it
					err = c.o.Step(p, tensor.New(13, 37), 0.1)
				}
				if err == nil || !strings.Contains(err.Error(), "layer.weight") {
					t.Errorf("%T: %s is %s: %v, want an error that names the parameter", c.o, state[i].Name, what, err)
				}
			}
		}
	}
}
