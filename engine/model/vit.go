package model

import (
	"fmt"

	"tare/engine/grad"
	"tare/engine/nn"
)

// ViT classifies images by an encoder over their patches: each patch is a token, a
// learned token before them gathers what the head reads. DeiT has a second such token,
// which only its training by a teacher uses. (Dosovitskiy et al. 2020, arXiv:2010.11929;
// Touvron et al. 2020, arXiv:2012.12877.)
type ViT struct {
	stack
	Class, Distillation *grad.Param // [1, d]; Distillation is nil but in DeiT
	Positions           *nn.Embedding
	Patch               *grad.Param // [d, channels·patch·patch], a convolution in the checkpoint
	PatchBias           *grad.Param
	Layers              []*EncoderBlock
	Norm                *nn.LayerNorm
	Head                *nn.Linear
}

func vitConfig(c *Config) {
	c.HiddenAct, c.NormEps, c.learned = "gelu", 1e-12, true
	c.read("hidden_act", &c.HiddenAct)
	c.read("layer_norm_eps", &c.NormEps)
	c.Image = &ImageShape{Size: 224, Patch: 16, Channels: 3}
	c.read("image_size", &c.Image.Size)
	c.read("patch_size", &c.Image.Patch)
	c.read("num_channels", &c.Image.Channels)
	c.readLabels()
	if c.Image.Patch > 0 {
		c.MaxPositions = c.Image.patches() + c.leading()
	}
}

// patches returns how many patches an image has.
func (s *ImageShape) patches() int { return s.Size / s.Patch * (s.Size / s.Patch) }

// pixels returns how many numbers an image has.
func (s *ImageShape) pixels() int { return s.Channels * s.Size * s.Size }

// leading returns how many learned tokens stand before the patches.
func (c *Config) leading() int {
	if c.ModelType == "deit" {
		return 2
	}
	return 1
}

func newViTClassifier(c *Config, b *builder) Classifier {
	m := &ViT{}
	d, p, bias := c.HiddenSize, c.Image.Patch, true
	c.read("qkv_bias", &bias)
	at := c.ModelType + "."
	m.Class = b.paramAs([]int{1, d}, at+"embeddings.cls_token", 1, 1, d)
	if c.leading() == 2 {
		m.Distillation = b.paramAs([]int{1, d}, at+"embeddings.distillation_token", 1, 1, d)
	}
	m.Positions = &nn.Embedding{Table: b.paramAs([]int{c.MaxPositions, d}, at+"embeddings.position_embeddings", 1, c.MaxPositions, d)}
	m.Patch = b.paramAs([]int{d, c.Image.Channels * p * p}, at+"embeddings.patch_embeddings.projection.weight", d, c.Image.Channels, p, p)
	m.PatchBias = b.param(at+"embeddings.patch_embeddings.projection.bias", d)
	for i := range c.Layers {
		at, size := fmt.Sprintf("%sencoder.layer.%d.", at, i), c.LayerSize(i)
		q := size.Heads * c.HeadDim
		l := &EncoderBlock{heads: c.bidirectional(i), act: activations[c.HiddenAct], normFirst: true}
		l.AttentionNorm = b.layerNorm(at+"layernorm_before", d)
		l.Q = b.layer(at+"attention.attention.query", q, d, bias)
		l.K = b.layer(at+"attention.attention.key", q, d, bias)
		l.V = b.layer(at+"attention.attention.value", q, d, bias)
		l.O = b.layer(at+"attention.output.dense", d, q, true)
		l.MLPNorm = b.layerNorm(at+"layernorm_after", d)
		l.Up = b.layer(at+"intermediate.dense", size.Channels, d, true)
		l.Down = b.layer(at+"output.dense", d, size.Channels, true)
		m.Layers = append(m.Layers, l)
		b.block(l)
	}
	m.Norm = b.layerNorm(at+"layernorm", d)
	m.Head = b.layer("classifier", c.Labels, d, true)
	m.stack = b.stack
	return m
}

// Classify implements Classifier.
func (m *ViT) Classify(tp *grad.Tape, in Inputs) *grad.Value {
	images := len(in.Pixels) / m.Config.Image.pixels()
	x, seqs := m.embed(tp, in.Pixels, images)
	x = firstRows(tp, m.through(tp, x, seqs, nil), seqs)
	return m.Head.Apply(tp, m.Norm.Apply(tp, x))
}

// embed returns the images as sequences of tokens, positions added.
func (m *ViT) embed(tp *grad.Tape, pixels []float32, images int) (*grad.Value, grad.Sequences) {
	shape, leading := m.Config.Image, m.Config.leading()
	n := leading + shape.patches() // tokens of an image
	var seqs grad.Sequences
	var patchAt, classAt, teacherAt []int
	for i := range images {
		seqs.Lengths = append(seqs.Lengths, n)
		classAt, teacherAt = append(classAt, i*n), append(teacherAt, i*n+1)
		for p := range n - leading {
			patchAt = append(patchAt, i*n+leading+p)
		}
	}
	rows := images * shape.patches()
	x := tp.Const(cutPatches(pixels, images, shape), rows, shape.Channels*shape.Patch*shape.Patch)
	x = tp.AddBias(tp.Linear(x, m.Patch), m.PatchBias)
	x = tp.AddTo(m.Positions.Apply(tp, positions(seqs, 0)), tp.ScatterRows(x, patchAt, images*n))
	first := make([]int32, images)
	x = tp.AddTo(x, tp.ScatterRows(tp.Embed(first, m.Class), classAt, images*n))
	if m.Distillation != nil {
		x = tp.AddTo(x, tp.ScatterRows(tp.Embed(first, m.Distillation), teacherAt, images*n))
	}
	return x, seqs
}

// cutPatches turns images [n, channels, size, size] into rows of patches
// [n·patches, channels·patch·patch], left to right and top to bottom.
func cutPatches(pixels []float32, n int, s *ImageShape) []float32 {
	out := make([]float32, 0, n*s.patches()*s.Channels*s.Patch*s.Patch)
	side := s.Size / s.Patch
	for i := range n {
		for p := range side * side {
			for c := range s.Channels {
				for y := range s.Patch {
					at := ((i*s.Channels+c)*s.Size+p/side*s.Patch+y)*s.Size + p%side*s.Patch
					out = append(out, pixels[at:at+s.Patch]...)
				}
			}
		}
	}
	return out
}
