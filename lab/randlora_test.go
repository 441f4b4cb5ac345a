package lab

import "testing"

// On a matrix of a smaller side m RandLoRA of rank r trains ⌈m/r⌉·(r + m) entries: with
// r = 8 and m = 64 that is 576 on each of a block's six, LoRA's number at rank 3.
func TestDigitTransformerArmsHaveTheSameEntries(t *testing.T) {
	const blocks, matrices = 4, 6
	for _, a := range []tuneArm{{"randlora", Method, "randlora", 8}, {"lora", Baseline, "lora", 3}} {
		m, err := newDigitTransformer()
		if err != nil {
			t.Fatal(err)
		}
		adapter, entries, err := transformerDigits.attach(m, a, 1)
		if err != nil {
			t.Fatal(err)
		}
		if entries != blocks*matrices*576 || len(adapter.Layers) != blocks*matrices {
			t.Errorf("%s: %d entries in %d layers", a.name, entries, len(adapter.Layers))
		}
	}
}
