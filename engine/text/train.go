package text

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
)

// TrainOptions says what tokenizer Train makes.
type TrainOptions struct {
	// Vocab is the number of tokens wanted, special ones and the 256 bytes included.
	// Text too small for it gives fewer.
	Vocab int
	// Special are the special tokens; they get the first ids.
	Special []string
}

// Train learns a byte-level BPE from texts and returns it as a tokenizer.json:
// words by GPT-2's pattern, all 256 bytes in the vocabulary, merges by falling
// count, of equal counts the pair of smaller ids first. The same texts give the
// same file, the one that the reference trainer gives.
func Train(texts []string, o TrainOptions) ([]byte, error) {
	if least := 256 + len(o.Special); o.Vocab < least {
		return nil, fmt.Errorf("text: a vocabulary of %d is too small: 256 bytes and %d special tokens need %d", o.Vocab, len(o.Special), least)
	}
	t, err := newTrainer(texts, o.Special)
	if err != nil {
		return nil, err
	}
	t.run(o.Vocab)
	return t.document(o.Special)
}

// trainWord is a distinct word as the symbols it consists of so far.
type trainWord struct {
	ids   []int32
	count int
}

type trainer struct {
	tokens []string
	ids    map[string]int32
	words  []trainWord
	counts map[uint64]int // by pair, over all words
	queue  candidates
	merges []uint64
}

func newTrainer(texts, special []string) (*trainer, error) {
	t := &trainer{ids: map[string]int32{}, counts: map[uint64]int{}}
	for _, s := range special {
		if _, ok := t.ids[s]; ok || s == "" {
			return nil, fmt.Errorf("text: the special token %q is empty or there twice", s)
		}
		t.token(s)
	}
	alphabet := slices.Clone(byteChars[:])
	slices.Sort(alphabet)
	for _, r := range alphabet {
		t.token(string(r))
	}
	t.count(texts)
	return t, nil
}

// token returns the id of s, a new one if need be.
func (t *trainer) token(s string) int32 {
	id, ok := t.ids[s]
	if !ok {
		id = int32(len(t.tokens))
		t.tokens = append(t.tokens, s)
		t.ids[s] = id
	}
	return id
}

// count splits texts into words and counts pairs.
func (t *trainer) count(texts []string) {
	seen := map[string]int{}
	for _, s := range texts {
		scanner(gpt2Word).split(validUTF8(s), func(word string) { seen[word]++ })
	}
	list := make([]string, 0, len(seen))
	for word := range seen {
		list = append(list, word)
	}
	sort.Strings(list)
	places := map[uint64][]int{}
	for i, word := range list {
		w := trainWord{count: seen[word]}
		for b := range len(word) {
			w.ids = append(w.ids, t.ids[string(byteChars[word[b]])])
		}
		t.words = append(t.words, w)
		for k := range len(w.ids) - 1 {
			key := pairKey(w.ids[k], w.ids[k+1])
			t.counts[key] += w.count
			places[key] = addPlace(places[key], i)
		}
	}
	for key, at := range places {
		t.queue = append(t.queue, candidate{key, t.counts[key], at})
	}
	heap.Init(&t.queue)
}

// run merges until there are vocab tokens or no pair is left. A candidate's count
// may be out of date; it is looked up when the candidate comes first.
func (t *trainer) run(vocab int) {
	for len(t.tokens) < vocab && len(t.queue) > 0 {
		top := heap.Pop(&t.queue).(candidate)
		if now := t.counts[top.pair]; now != top.count {
			top.count = now
			heap.Push(&t.queue, top)
			continue
		}
		if top.count < 1 {
			return
		}
		a, b := int32(top.pair>>32), int32(uint32(top.pair))
		id := t.token(t.tokens[a] + t.tokens[b])
		t.merges = append(t.merges, top.pair)
		t.merge(a, b, id, top.places)
	}
}

// merge replaces a b by id in the words at places, and makes candidates of the
// pairs that come up.
func (t *trainer) merge(a, b, id int32, places []int) {
	fresh := map[uint64][]int{}
	for _, place := range places {
		w := &t.words[place]
		gain := func(x, y int32) {
			key := pairKey(x, y)
			t.counts[key] += w.count
			fresh[key] = addPlace(fresh[key], place)
		}
		lose := func(x, y int32) { t.counts[pairKey(x, y)] -= w.count }
		for i := 0; i+1 < len(w.ids); i++ {
			if w.ids[i] != a || w.ids[i+1] != b {
				continue
			}
			if i > 0 {
				lose(w.ids[i-1], a)
				gain(w.ids[i-1], id)
			}
			if i+2 < len(w.ids) {
				lose(b, w.ids[i+2])
				gain(id, w.ids[i+2])
			}
			w.ids[i] = id
			w.ids = append(w.ids[:i+1], w.ids[i+2:]...)
		}
	}
	for key, at := range fresh {
		if n := t.counts[key]; n > 0 {
			heap.Push(&t.queue, candidate{key, n, at})
		}
	}
}

// addPlace appends a place that is not the last one already.
func addPlace(places []int, at int) []int {
	if n := len(places); n > 0 && places[n-1] == at {
		return places
	}
	return append(places, at)
}

// candidate is a pair that may be merged, and the words it is in.
type candidate struct {
	pair   uint64
	count  int
	places []int
}

// candidates is a heap: the largest count first, then the smallest ids.
type candidates []candidate

func (c candidates) Len() int      { return len(c) }
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c candidates) Less(i, j int) bool {
	if c[i].count != c[j].count {
		return c[i].count > c[j].count
	}
	return c[i].pair < c[j].pair
}

// Push implements heap.Interface.
func (c *candidates) Push(x any) { *c = append(*c, x.(candidate)) }

// Pop implements heap.Interface.
func (c *candidates) Pop() any {
	last := len(*c) - 1
	x := (*c)[last]
	*c = (*c)[:last]
	return x
}

// document writes the tokenizer.json.
func (t *trainer) document(special []string) ([]byte, error) {
	type object = map[string]any
	added := make([]addedToken, len(special))
	for i, s := range special {
		added[i] = addedToken{ID: int32(i), Content: s, Special: true}
	}
	merges := make([]string, len(t.merges))
	for i, pair := range t.merges {
		merges[i] = t.tokens[pair>>32] + " " + t.tokens[uint32(pair)]
	}
	bytes := object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	doc := struct {
		Version      string       `json:"version"`
		Truncation   any          `json:"truncation"`
		Padding      any          `json:"padding"`
		Added        []addedToken `json:"added_tokens"`
		Normalizer   any          `json:"normalizer"`
		PreTokenizer object       `json:"pre_tokenizer"`
		Post         any          `json:"post_processor"`
		Decoder      object       `json:"decoder"`
		Model        any          `json:"model"`
	}{
		Version: "1.0", Added: added, PreTokenizer: bytes, Decoder: bytes,
		Model: struct {
			Type         string           `json:"type"`
			Dropout      any              `json:"dropout"`
			Unknown      any              `json:"unk_token"`
			Prefix       any              `json:"continuing_subword_prefix"`
			Suffix       any              `json:"end_of_word_suffix"`
			FuseUnknown  bool             `json:"fuse_unk"`
			ByteFallback bool             `json:"byte_fallback"`
			IgnoreMerges bool             `json:"ignore_merges"`
			Vocab        map[string]int32 `json:"vocab"`
			Merges       []string         `json:"merges"`
		}{Type: "BPE", Vocab: t.ids, Merges: merges},
	}
	return json.MarshalIndent(doc, "", " ")
}
