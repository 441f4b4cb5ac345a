package bundle

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
)

// Cloze is a question on a text: which of the choices is the sentence that follows.
type Cloze struct {
	Context string   // two sentences in succession
	Choices []string // the next one and three from elsewhere in the text
	Answer  int      // the number of the right choice
}

// clozeSeed draws the questions.
const clozeSeed = 1704 // the year of the first edition of Opticks

// The lengths of sentences that are asked for, in bytes: shorter ones are headings and
// numbers, longer ones leave the context no room.
const clozeShort, clozeLong = 40, 400

// OpticksCloze returns at most n questions on the held-out sections of Opticks, the same
// ones every time. A wrong choice is a sentence of about the right one's length (the
// nearest twelve), so that its length tells nothing.
func OpticksCloze(n int) []Cloze {
	rng := rand.New(rand.NewPCG(clozeSeed, 0))
	var questions []Cloze
	var pool []string
	type place struct{ context, next string }
	var places []place
	for paragraph := range strings.SplitSeq(Opticks(Test), "\n\n") {
		s := sentences(paragraph)
		for i, next := range s {
			if len(next) < clozeShort || len(next) > clozeLong {
				continue
			}
			pool = append(pool, next)
			if i >= 2 && len(s[i-2])+len(s[i-1]) <= 2*clozeLong {
				places = append(places, place{s[i-2] + " " + s[i-1], next})
			}
		}
	}
	rng.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
	for _, p := range places[:min(n, len(places))] {
		near := slices.DeleteFunc(slices.Clone(pool), func(s string) bool { return s == p.next || strings.Contains(p.context, s) })
		slices.SortStableFunc(near, func(a, b string) int { return distance(a, p.next) - distance(b, p.next) })
		near = near[:min(12, len(near))]
		rng.Shuffle(len(near), func(i, j int) { near[i], near[j] = near[j], near[i] })
		q := Cloze{Context: p.context, Choices: append([]string{p.next}, near[:min(3, len(near))]...)}
		rng.Shuffle(len(q.Choices), func(i, j int) { q.Choices[i], q.Choices[j] = q.Choices[j], q.Choices[i] })
		q.Answer = slices.Index(q.Choices, p.next)
		questions = append(questions, q)
	}
	return questions
}

// distance is how much the lengths of two sentences differ.
func distance(a, b string) int { return max(len(a), len(b)) - min(len(a), len(b)) }

// sentenceEnd is a full stop with a space and a capital after it.
var sentenceEnd = regexp.MustCompile(`[a-z)][.?!] [A-Z]`)

// sentences cuts a paragraph.
func sentences(paragraph string) []string {
	paragraph = strings.Join(strings.Fields(paragraph), " ")
	var out []string
	for {
		at := sentenceEnd.FindStringIndex(paragraph)
		if at == nil {
			return append(out, paragraph)
		}
		out = append(out, paragraph[:at[0]+2])
		paragraph = paragraph[at[1]-1:]
	}
}
