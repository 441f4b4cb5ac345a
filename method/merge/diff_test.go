package merge

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/tensor"
)

func openIn(t *testing.T, dir, name string, tensors ...checkpoint.NamedTensor) *checkpoint.Folder {
	t.Helper()
	put(t, dir, name, tensors...)
	f, err := checkpoint.OpenFolder(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: %g, want %g", what, got, want)
	}
}

func TestDiffClosedForm(t *testing.T) {
	dir := t.TempDir()
	a := openIn(t, dir, "a", named("v", tensor.F32, []float32{3, 4, 0, 0}, 4), named("same", tensor.F32, []float32{0, 0}, 2),
		named("gone", tensor.F32, []float32{1}, 1), named("shape", tensor.F32, []float32{1, 2}, 2),
		named("types", tensor.F32, []float32{1 + 0x1p-10, 1 + 0x1p-6}, 2))
	b := openIn(t, dir, "b", named("v", tensor.F32, []float32{3, 4, 12, 5e-6}, 4), named("same", tensor.F32, []float32{0, 0}, 2),
		named("shape", tensor.F32, []float32{1, 2}, 2, 1), named("new", tensor.BF16, []float32{1}, 1),
		named("types", tensor.BF16, []float32{1, 1}, 2))
	got, err := Diff(t.Context(), a, b, DiffOptions{})
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]TensorDiff{}
	for _, d := range got {
		by[d.Name] = d
	}
	v := by["v"]
	near(t, "changed", v.Changed, 0.25, 0)
	near(t, "changed as stored", v.ChangedStored, 0.5, 0)
	near(t, "‖A‖", v.NormA, 5, 1e-12)
	near(t, "‖Δ‖", v.NormDelta, 12, 1e-11)
	near(t, "relative", v.Relative, 2.4, 1e-11)
	near(t, "cosine", v.Cosine, 25.0/(5*13), 1e-12)
	near(t, "largest", v.MaxDelta, 12, 0)
	if s := by["same"]; s.Changed != 0 || s.Cosine != 1 || s.Relative != 0 {
		t.Errorf("equal tensors of zeros: %+v", s)
	}
	// 1 + 2⁻¹⁰ is 1 in bf16, 1 + 2⁻⁶ is not.
	near(t, "across types", by["types"].ChangedStored, 0.5, 0)
	near(t, "across types, exact", by["types"].Changed, 1, 0)
	if by["gone"].Only != "a" || by["new"].Only != "b" || by["new"].DTypeB != "BF16" || len(by["shape"].ShapeB) != 2 || len(got) != 6 {
		t.Errorf("%+v", got)
	}
	if _, err := json.Marshal(got); err != nil {
		t.Error(err)
	}
}

// Hadamard columns are orthogonal and of ±1, so that a matrix with given singular
// values and vectors is written down exactly: M = Σ s_r h_r k_rᵀ / √(rows·cols).
func hadamard(i, r int) float64 {
	bits := i & r
	sign := 1.0
	for ; bits > 0; bits &= bits - 1 {
		sign = -sign
	}
	return sign
}

func fromSingular(rows, cols int, s []float64, shift int) []float32 {
	m := make([]float32, rows*cols)
	for i := range rows {
		for j := range cols {
			for r, v := range s {
				m[i*cols+j] += float32(v * hadamard(i, r+shift) * hadamard(j, r+shift) / math.Sqrt(float64(rows*cols)))
			}
		}
	}
	return m
}

func TestSpectrumOfALowRankChange(t *testing.T) {
	for _, shape := range [][2]int{{32, 64}, {64, 32}, {1024, 8}, {32, 32}} {
		rows, cols := shape[0], shape[1]
		base := fromSingular(rows, cols, []float64{8, 4, 2, 1}, 0)
		change := fromSingular(rows, cols, []float64{0.5, 0.25, 0.125}, 4)
		tuned := make([]float32, len(base))
		for i := range base {
			tuned[i] = base[i] + change[i]
		}
		dir := t.TempDir()
		a := openIn(t, dir, "a", named("w", tensor.F32, base, rows, cols))
		b := openIn(t, dir, "b", named("w", tensor.F32, tuned, rows, cols))
		// The other matrix has its principal directions beside the first's: of the
		// four, two are the same.
		c := openIn(t, dir, "c", named("w", tensor.F32, fromSingular(rows, cols, []float64{5, 6, 7, 8}, 2), rows, cols))
		got, err := Diff(t.Context(), a, b, DiffOptions{Spectrum: true, Rank: 4})
		if err != nil {
			t.Fatal(err)
		}
		s := got[0].Spectrum
		if s.Rank != 3 || s.Full != min(rows, cols) || s.AtRank != 4 {
			t.Errorf("%v: %+v, want rank 3", shape, s)
		}
		for i, want := range []float64{0.5, 0.25, 0.125, 0} {
			near(t, "singular value", s.Values[i], want, 1e-5)
		}
		near(t, "‖Δ‖", got[0].NormDelta, math.Sqrt(0.25+0.0625+0.015625), 1e-6)
		near(t, "overlap", s.Overlap, 1, 1e-6)
		near(t, "by chance", s.Of, 4/float64(rows), 1e-12)
		got, err = Diff(t.Context(), a, c, DiffOptions{Spectrum: true, Rank: 4})
		if err != nil {
			t.Fatal(err)
		}
		near(t, "overlap of half", got[0].Spectrum.Overlap, 0.5, 1e-6)
	}
}

func TestSpectrumIsSkippedAloud(t *testing.T) {
	dir := t.TempDir()
	a := openIn(t, dir, "a", named("w", tensor.F32, random(64, 1), 8, 8))
	got, err := Diff(t.Context(), a, a, DiffOptions{Spectrum: true, MaxSide: 7})
	if err != nil || got[0].Spectrum != nil || !strings.Contains(got[0].Note, "the smaller side is 8, above 7") {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = Diff(t.Context(), a, a, DiffOptions{Spectrum: true})
	if err != nil || got[0].Spectrum.Rank != 0 || got[0].Changed != 0 {
		t.Errorf("of no change: %+v, %v", got, err)
	}
}

func TestDiffRefuses(t *testing.T) {
	dir := t.TempDir()
	bad := random(70000, 1)
	bad[69000] = float32(math.NaN())
	a := openIn(t, dir, "a", named("w", tensor.F32, random(70000, 1), 70000))
	b := openIn(t, dir, "b", named("w", tensor.F32, bad, 70000))
	if _, err := Diff(t.Context(), a, b, DiffOptions{}); !errors.Is(err, checkpoint.ErrNonFinite) || !strings.Contains(err.Error(), "second checkpoint has NaN or Inf at index 69000") {
		t.Errorf("NaN: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Diff(ctx, a, a, DiffOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
