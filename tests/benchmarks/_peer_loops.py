"""The training loops of four papers' repositories, written anew from what those do: batches, optimiser, order of
passes, which model runs when, and what is kept of each step.

SalUn: OPTML-Group/Unlearn-Saliency, Classification/{generate_mask.py,unlearn/RL.py}, its CIFAR-10 branch of 2026, which
    puts masked-out weights back and masks the momentum.
SCRUB: meghdadk/SCRUB, thirdparty/repdistiller/helper/loops.py:train_distill, its small-scale settings.
Bad-T: vikram2000b/bad-teaching-unlearning, unlearn.py:blindspot_unlearner, as its notebooks run it.
SSD: if-loops/selective-synaptic-dampening, src/ssd.py.

Rows are ready tensors, (inputs, labels), behind a `DataLoader` without worker processes. Nothing is printed; what the
loops would print is still computed.
"""

import copy

import torch
from torch.nn.functional import cross_entropy, kl_div
from torch.utils.data import DataLoader, TensorDataset


class Mean:
    """A running mean, asked after every step."""

    def __init__(self):
        self.sum = self.count = self.mean = 0

    def update(self, value, n):
        self.sum, self.count = self.sum + value * n, self.count + n
        self.mean = self.sum / self.count


def loader(rows, size, shuffle=True):
    return DataLoader(TensorDataset(*rows), batch_size=size, shuffle=shuffle)


def accuracy(logits, labels, most=1):
    """Per cent of the rows whose class is among the ``most`` likeliest."""
    found = logits.topk(most, 1).indices.t() == labels[None]
    return found[:1].reshape(-1).float().sum() * (100 / len(labels))


# -- SalUn -------------------------------------------------------------------------------------------------------------


def saliency_mask(model, forget, size, share=0.5):
    """Name → 1 where the gradient of D_f, summed over its batches, is among the largest ``share`` of all, else 0."""
    model.eval()
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for inputs, labels in loader(forget, size):
        model.zero_grad()
        (-cross_entropy(model(inputs).logits, labels)).backward()
        with torch.no_grad():
            for name, p in model.named_parameters():
                if p.grad is not None:
                    sums[name] += p.grad
    scores = -torch.cat([total.abs().flatten() for total in sums.values()])
    ranks = scores.argsort().argsort()
    parts = ranks.split([total.numel() for total in sums.values()])
    most = int(len(scores) * share)
    return {n: (part < most).float().reshape(sums[n].shape) for n, part in zip(sums, parts, strict=True)}


def salun(model, forget, retain, classes, epochs=1, size=256):
    """Each epoch a pass over D_f with random labels, then one over D_r."""
    mask = saliency_mask(model, forget, size)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.013, momentum=0.9, weight_decay=5e-4)
    model.train()
    for _ in range(epochs):
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        losses, top = Mean(), Mean()
        for inputs, labels in loader(forget, size):
            _salun_step(model, optimizer, mask, start, inputs, torch.randint(0, classes, labels.shape))
        for inputs, labels in loader(retain, size):
            loss, logits = _salun_step(model, optimizer, mask, start, inputs, labels)
            right = accuracy(logits.float(), labels)
            losses.update(loss.float().item(), len(labels))
            top.update(right.item(), len(labels))


def _salun_step(model, optimizer, mask, start, inputs, labels):
    logits = model(inputs).logits
    loss = cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    for name, p in model.named_parameters():
        if p.grad is not None:
            p.grad *= mask[name]
    optimizer.step()
    with torch.no_grad():
        for name, p in model.named_parameters():
            kept = 1 - mask[name]
            if torch.count_nonzero(kept):
                p.mul_(mask[name]).add_(start[name] * kept)
                optimizer.state[p]["momentum_buffer"].mul_(mask[name])
    return loss.detach(), logits.detach()


# -- SCRUB -------------------------------------------------------------------------------------------------------------


def distance(student, teacher, temperature):
    """Their distillation loss: T² × KL(teacher ‖ student) at temperature T, of a batch's mean example."""
    student, teacher = (student / temperature).log_softmax(1), (teacher / temperature).softmax(1)
    return kl_div(student, teacher, reduction="sum") * temperature**2 / len(student)


def scrub_loss(student, teacher, inputs, labels, apart, gamma=1.0, alpha=0.5, temperature=2.0):
    """What a step of a max (``apart``) or of a min pass lowers, and the student's logits."""
    logits = student(inputs).logits
    with torch.no_grad():
        taught = teacher(inputs).logits
    task, divergence = cross_entropy(logits, labels), distance(logits, taught, temperature)
    return -divergence if apart else gamma * task + alpha * divergence, logits


def scrub(model, forget, retain, epochs=1, passes=1):
    """Each epoch, the first ``passes`` of them after a max pass over D_f, a min pass over D_r."""
    teacher = copy.deepcopy(model).eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, weight_decay=0.1)
    for epoch in range(epochs):
        if epoch < passes:
            _scrub_pass(model, teacher, optimizer, loader(forget, 64), apart=True)
        _scrub_pass(model, teacher, optimizer, loader(retain, 32), apart=False)


def _scrub_pass(model, teacher, optimizer, batches, apart):
    model.train()
    losses, top = Mean(), Mean()
    for inputs, labels in batches:
        loss, logits = scrub_loss(model, teacher, inputs, labels, apart)
        if not apart:
            top.update(accuracy(logits, labels), len(labels))
        losses.update(loss.item(), len(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# -- Bad-T -------------------------------------------------------------------------------------------------------------


def bad_t_loss(student, good, bad, inputs, forgotten):
    """KL to the bad teacher on D_f and to the good one on D_r, averaged over examples and classes; both see all rows.

    forgotten: 1 for each example of D_f, else 0.
    """
    with torch.no_grad():
        right, wrong = good(inputs).logits, bad(inputs).logits
    logits, forgotten = student(inputs).logits, forgotten[:, None]
    target = forgotten * wrong.softmax(1) + (1 - forgotten) * right.softmax(1)
    return kl_div(logits.log_softmax(1), target, reduction="mean")


def bad_t(model, bad, forget, retain, epochs=1, size=256, share=0.3):
    """One shuffled loader over D_f and a random ``share`` of D_r, drawn once."""
    good = copy.deepcopy(model).eval()
    chosen = torch.randperm(len(retain[0]))[: round(share * len(retain[0]))]
    rows = torch.cat([forget[0], retain[0][chosen]])
    flags = torch.cat([torch.ones(len(forget[0])), torch.zeros(len(chosen))])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    model.train()
    for _ in range(epochs):
        losses = []
        for inputs, forgotten in loader((rows, flags), size):
            optimizer.zero_grad()
            loss = bad_t_loss(model, good, bad, inputs, forgotten)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach().cpu().numpy())


# -- SSD ---------------------------------------------------------------------------------------------------------------


def importance(model, rows, size):
    """Name → mean over batches of the squared gradient of a batch's mean loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    batches = loader(rows, size)
    for inputs, labels in batches:
        optimizer.zero_grad()
        cross_entropy(model(inputs).logits, labels).backward()
        for name, p in model.named_parameters():
            if p.grad is not None:
                sums[name] += p.grad.clone().pow(2)
    return {name: total / len(batches) for name, total in sums.items()}


def ssd(model, forget, everything, size, alpha=10.0, dampening=1.0):
    """Weights whose importance for D_f is more than ``alpha`` times that for D are made smaller."""
    model.eval()
    of_forget, of_all = importance(model, forget, size), importance(model, everything, size)
    with torch.no_grad():
        for name, p in model.named_parameters():
            chosen = of_forget[name] > alpha * of_all[name]
            factor = (dampening * of_all[name] / of_forget[name])[chosen]
            factor[factor > 1] = 1
            p[chosen] = p[chosen] * factor
