package bundle

import (
	"math"
	"testing"
)

// By hand, for "abracadabra" and two bytes:
//
// pairs ab 2, br 2, ra 2, ac 1, ca 1, ad 1, da 1: n1 = 4, n2 = 3, D = 4/10.
// distinct bytes before a: r, c, d; before b, r, c, d: one each; sum 7; n2 = 0, so D = 1/2.
func TestNGramByHand(t *testing.T) {
	m, err := TrainNGram("abracadabra", 2)
	if err != nil {
		t.Fatal(err)
	}
	const unseen = 0.5 * 5 / 7 / 256 // what the first order gives to every byte
	pa, pb, pz := 2.5/7+unseen, 0.5/7+unseen, unseen
	for _, c := range []struct {
		history string
		next    byte
		want    float64
	}{
		{"", 'a', pa},
		{"", 'b', pb},
		{"", 'z', pz},
		{"a", 'b', 1.6/4 + 0.4*3/4*pb}, // after a: b twice, c, d
		{"a", 'c', 0.6/4 + 0.4*3/4*pb},
		{"a", 'z', 0.4 * 3 / 4 * pz},
		{"cada", 'b', 1.6/4 + 0.4*3/4*pb}, // one byte of history counts
		{"b", 'r', 1.6/2 + 0.4*1/2*pb},
		{"z", 'a', pa}, // z was never seen
	} {
		if got := m.Prob(c.history, c.next); math.Abs(got-c.want) > 1e-15 {
			t.Errorf("p(%c|%q) = %v, by hand %v", c.next, c.history, got, c.want)
		}
	}
}

func TestNGramSumsToOne(t *testing.T) {
	text := "the cat sat on the mat; that cat ate the hat, and the hat sat on."
	for n := 1; n <= 6; n++ {
		m, err := TrainNGram(text, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, history := range []string{"", "t", "th", "the ", " the cat", "on.", "xyz", "\xff\x00"} {
			var sum float64
			for b := range 256 {
				sum += m.Prob(history, byte(b))
			}
			if math.Abs(sum-1) > 1e-12 {
				t.Errorf("n = %d: the probabilities after %q sum to %v", n, history, sum)
			}
		}
	}
}

// A model of no use costs 8 bits; text that repeats costs almost none.
func TestNGramBitsPerByte(t *testing.T) {
	empty, err := TrainNGram("", 5)
	if err != nil {
		t.Fatal(err)
	}
	if got := empty.BitsPerByte("any text"); math.Abs(got-8) > 1e-12 {
		t.Errorf("untrained: %v bits per byte, want 8", got)
	}
	var text string
	for range 200 {
		text += "abcdefg "
	}
	m, err := TrainNGram(text, 3)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.BitsPerByte(text); got > 0.1 {
		t.Errorf("repeated text: %v bits per byte", got)
	}
}

func TestNGramRefusesLength(t *testing.T) {
	for _, n := range []int{0, 9} {
		if _, err := TrainNGram("text", n); err == nil {
			t.Errorf("an n-gram of %d bytes was accepted", n)
		}
	}
}
