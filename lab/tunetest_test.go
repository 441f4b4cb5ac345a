package lab

import (
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/model"
	"tare/lab/bundle"
)

// The shapes that ranks are matched on are those of the checkpoint.
func TestBundledShapes(t *testing.T) {
	if !bundle.Has() {
		t.Skip("this build carries no checkpoint")
	}
	path, err := bundle.Folder()
	if err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := model.ParseConfig(f.Config)
	if err != nil {
		t.Fatal(err)
	}
	specs, err := model.Layout(c)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range specs {
		if want := bundledShapes[i%len(bundledShapes)]; s.Out != want[0] || s.In != want[1] {
			t.Errorf("%s is [%d, %d], want %v", s.Name, s.Out, s.In, want)
		}
	}
}

func TestMatchedRank(t *testing.T) {
	// Σ(in+out) is 3456 and Σ out is 1792: 8·3456/1792 is 15.4.
	if r := matchedRank(onlyOut); r != 15 {
		t.Errorf("rank %d, want 15", r)
	}
	if r := matchedRank(func(out, in int) int { return out + in }); r != 8 {
		t.Errorf("rank %d for LoRA itself, want 8", r)
	}
	// A [192, 192] term has 12·16 + 16·12 entries, a [512, 192] one 16·16 + 32·12; all
	// shapes have 3232: 8·3456/3232 is 8.6.
	if a, b := matchedRank(kroneckerTerm), matchedRank(fourThirds); a != 9 || b != 6 {
		t.Errorf("%d and %d Kronecker terms, want 9 and 6", a, b)
	}
}
