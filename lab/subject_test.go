package lab

import "testing"

// The short form of the subject test gives every figure, and LoRA of rank 2 trains
// r·(in + out) entries of each adapted layer: per block four of 128 to 128, one of 128 to
// 512 and one back.
func TestSubject(t *testing.T) {
	if testing.Short() {
		t.Skip("trains a classifier and a network that draws")
	}
	a := tuneArm{"lora", Baseline, "lora", 2}
	figures, err := a.measureSubject(t.Context(), Env{Quick: true}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := float64(4 * 2 * (4*256 + 2*640)); figures[subjectEntries.Name] != want {
		t.Errorf("%v trained entries, want %v", figures[subjectEntries.Name], want)
	}
	if share := figures[subjectShare.Name]; share < 0 || share > 1 {
		t.Errorf("share %v", share)
	}
	if len(figures) != 4 {
		t.Errorf("figures %v", figures)
	}
}
