package lab

import "testing"

// On the eight adapted convolutions [o, i, k, k] FLoRA of ranks (8, 8, 3, 3), or (8, 8, 1, 1)
// for k = 1, trains Σ d_n r_n + Π r_n entries and LoRA of rank 4 on the flattened kernels
// 4·(o + k²·i), which is within 4 %.
func TestDigitArmsHaveTheSameEntries(t *testing.T) {
	convolutions := [][3]int{{16, 16, 3}, {16, 16, 3}, {32, 16, 3}, {32, 32, 3}, {32, 16, 1}, {64, 32, 3}, {64, 64, 3}, {64, 32, 1}}
	want := map[string]int{}
	for _, c := range convolutions {
		o, i, k := c[0], c[1], c[2]
		want["flora"] += 8*o + 8*i + 2*k*k + 64*k*k
		want["lora"] += 4 * (o + k*k*i)
	}
	for _, a := range floraDigitArms[:2] {
		m, err := newDigitNet()
		if err != nil {
			t.Fatal(err)
		}
		adapter, entries, err := residualDigits.attach(m, a, 1)
		if err != nil {
			t.Fatal(err)
		}
		if int(entries) != want[a.name] || len(adapter.Layers) != len(convolutions) {
			t.Errorf("%s: %d entries in %d layers, want %d in %d", a.name, entries, len(adapter.Layers), want[a.name], len(convolutions))
		}
	}
	if ratio := float64(want["flora"]) / float64(want["lora"]); ratio < 0.96 || ratio > 1.04 {
		t.Errorf("%.3f times as many entries", ratio)
	}
}
