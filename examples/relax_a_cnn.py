"""Train a CNN for a moment, turn it into its eLCN, check that nothing changed, and go on training.

python examples/relax_a_cnn.py
"""

import torch

from efcn_kernels import cnn_to_efcn, verify_equivalence
from efcn_kernels.study.data.sets import load
from efcn_kernels.study.models import small_cnn
from efcn_kernels.study.train.epoch import run_epoch

data = load("fashion-mnist-small")
train = data.normalised("train"), data.train_labels
test = data.normalised("test"), data.test_labels

torch.manual_seed(0)
cnn = small_cnn(data.channels, data.size, len(data.classes))
optimizer = torch.optim.SGD(cnn.parameters(), lr=0.1)
for epoch in range(1, 4):
    record = run_epoch(cnn, train, test, epoch=epoch, optimizer=optimizer, batch_size=250)
    print(f"epoch {epoch}, CNN:  test accuracy {record.test_accuracy:.1%}")

# support=1 adds the pixels next to each window, support="full" all of them
elcn = cnn_to_efcn(cnn, train[0][:250], support="local")
print("largest relative difference of the logits:", verify_equivalence(cnn, elcn, test[0][:250])["output"])

# the parameters are new tensors, so the optimizer is new as well
optimizer = torch.optim.SGD(elcn.parameters(), lr=0.1)
for epoch in range(4, 7):
    record = run_epoch(elcn, train, test, epoch=epoch, optimizer=optimizer, batch_size=250)
    print(f"epoch {epoch}, eLCN: test accuracy {record.test_accuracy:.1%}")
