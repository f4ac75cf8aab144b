"""What data a fingerprint stands for, where it differs from the paper's."""

# {`vampzoo.datasets.Dataset.fingerprint`: what it is}
VARIANTS = {
    "e60cd19a55197e139fcc1e2b0279a752207a5eec89d3d8b7138936346311a267": "rebuilt split: all silhouettes of the original, "
    "assigned to training, validation and test anew, stratified by class",
    "778c44feee56a7e4ee0286eb9e0b4c03cc33306df1513cb03a4518b395578101": "the original faces, split at random with a fixed "
    "seed, as the paper's were with another",
    "bf096c8a27133f4b76f2706c6d499c6b3017f2e4fe94baa9f7232486222cfb8b": "rebuilt split: the original digits in the "
    "original order, binarised once by another draw than the paper's",
    "ae4a2eeeb196469ab2c438131bb5f7cec09a9b62d96bd43bfea3a8ec86a54993": "rebuilt split: the original drawings, resized to "
    "28x28 anew and split at random",
    "6d1e0f852357b98d77b524e1f2cfa6f08da8cfafe648ded084e39950e65ad4d9": "the original digits; validation and test images "
    "binarised once with a fixed seed",
}

# {fingerprint: what the test images have in common with those that a model is trained on}
OVERLAPS = {
    "e60cd19a55197e139fcc1e2b0279a752207a5eec89d3d8b7138936346311a267": "12 of the 2,307 test images are among the training "
    "images, too, pixel by pixel; they raise the mean log-likelihood by about half a nat (0.43 to 0.51 in the "
    "paper's VAEs and HVAEs)",
    "778c44feee56a7e4ee0286eb9e0b4c03cc33306df1513cb03a4518b395578101": "These are frames of one film: 186 of the 200 test "
    "frames have a neighbouring frame among the training images, as with the paper's random split",
}
